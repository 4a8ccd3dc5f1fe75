"""What a planned row becomes: a transaction for the ledger, and what the bank saw of it."""

from __future__ import annotations

import datetime as dt
from typing import NamedTuple

from ledger_service.contract.context import Channel, Context
from ledger_service.contract.events import Entry, timestamp
from ledger_service.loading.ledger_client import Posting
from ledger_service.loading.mapping import Mapping
from ledger_service.loading.names import base32
from ledger_service.loading.partner_bank import FBO
from ledger_service.loading.plan import Transfer
from ledger_service.rails.sandbox_bank import Movement


class Command(NamedTuple):
    """A transaction, its row, and the movement at the bank if money came in or went out."""

    row: int
    posting: Posting
    movement: Movement | None


class Commands:
    """Makes commands of one load. `mark`: the file's fingerprint, in keys and references."""

    def __init__(self, ledger: str, mapping: Mapping, mark: str, fbo_number: str) -> None:
        self._ledger, self._mapping, self._mark = ledger, mapping, mark
        self._fbo_number = fbo_number

    def key(self, name: str) -> str:
        """The idempotency key of a row or of an account's opening."""
        return f"load.{self._mark}.{name}"

    def transfer(self, transfer: Transfer) -> Command:
        """The command of a row."""
        return self._command(
            str(transfer.row),
            f"{self._mark[:4]}.{base32(transfer.row)}",
            transfer.row,
            (transfer.origin, transfer.destination),
            transfer.amount,
            (transfer.kind, transfer.channel),
            transfer.effective_at,
        )

    def opening(self, number: int, account: str, amount: int, moment: dt.datetime) -> Command:
        """The command that pays an opening balance in; `number` is its row in the list."""
        return self._command(
            f"opening.{number}",
            f"{self._mark[:4]}.open.{base32(number)}",
            number,
            (None, account),
            amount,
            ("opening_balance", "wire"),
            moment,
        )

    def _command(  # noqa: PLR0917
        self,
        name: str,
        reference: str,
        row: int,
        sides: tuple[str | None, str | None],
        amount: int,
        meaning: tuple[str, Channel],
        moment: dt.datetime,
    ) -> Command:
        origin, destination = sides
        kind, channel = meaning
        currency, text = self._mapping.currency, str(amount)
        is_outside = origin is None or destination is None
        posting = Posting(
            idempotency_key=self.key(name),
            kind=kind,
            effective_at=timestamp(moment),
            entries=[
                Entry(origin or FBO, "debit", text, currency),
                Entry(destination or FBO, "credit", text, currency),
            ],
            context=Context(channel=channel, rail_reference=reference if is_outside else None),
            metadata={"source": self._mapping.name, "source_row": str(row)},
        )
        if not is_outside:
            return Command(row, posting, None)
        movement = Movement(
            id=f"{self._ledger}.{self._mark}.{name}",
            account_number=self._fbo_number,
            day=moment.date().isoformat(),
            side="credit" if origin is None else "debit",
            amount=text,
            reference=reference,
            channel="ach" if channel == "internal" else channel,
        )
        return Command(row, posting, movement)
