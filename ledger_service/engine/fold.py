"""A ledger's journal, folded: what the other tables must say if the journal is the truth."""

from __future__ import annotations

import hashlib

import msgspec

from ledger_service.contract.events import (
    AccountChanged,
    AccountOpened,
    JournalEvent,
    TransactionPosted,
)
from ledger_service.domain.account import parse_limit


class Multiset:
    """A sum of hashes: two are equal where the same facts were added, in whatever order.

    So millions of rows are compared in constant memory; which one differs is asked only then.
    """

    __slots__ = ("total",)

    def __init__(self) -> None:
        self.total = 0

    def add(self, facts: tuple[int | str | bytes, ...]) -> None:
        """Add one row."""
        digest = hashlib.sha256(repr(facts).encode()).digest()
        self.total = (self.total + int.from_bytes(digest, "big")) % (1 << 256)


class AccountFold(msgspec.Struct):
    """One account as its events left it; `number` is the `seq` of its opening."""

    number: int
    currency: str
    account_class: str
    normal_side: str
    custodial: bool
    gl_code: str
    owner: str | None
    floor: int | None
    ceiling: int | None
    status: str = "open"
    status_seq: int = 0
    debits: int = 0
    credits: int = 0
    version: int = 0
    """`seq` of the last transaction that moved it."""


class Fold(msgspec.Struct):
    """What the journal of one ledger says about the other tables."""

    accounts: dict[str, AccountFold] = msgspec.field(default_factory=dict)
    reversals: set[tuple[int, int]] = msgspec.field(default_factory=set)
    """`seq` of the original and of the reversal."""
    approvals: dict[int, str] = msgspec.field(default_factory=dict)
    """By `seq`, the approval that a transaction consumed."""
    entries: Multiset = msgspec.field(default_factory=Multiset)
    """Of seq, number in the transaction, account's number, signed amount, effective date."""
    keys: Multiset = msgspec.field(default_factory=Multiset)
    """Of idempotency digest and seq."""
    recorded_at: str = ""

    def apply(self, event: JournalEvent) -> bool:
        """Take in the next event; gives whether it balances.

        Errors: KeyError for an unknown account, ValueError for an amount that is no number.
        """
        if isinstance(event, AccountOpened):
            self._open(event)
        elif isinstance(event, AccountChanged):
            account = self.accounts[event.account]
            account.status, account.status_seq = event.status, event.seq
        elif isinstance(event, TransactionPosted):
            if event.reverses is not None:
                self.reversals.add((event.reverses, event.seq))
            if event.approval is not None:
                self.approvals[event.seq] = event.approval
            return self._post(event)
        return True

    def _open(self, event: AccountOpened) -> None:
        self.accounts[event.account] = AccountFold(
            event.seq,
            event.currency,
            event.account_class,
            event.normal_side,
            event.custodial,
            event.gl_code,
            event.owner,
            parse_limit(event.floor),
            parse_limit(event.ceiling),
            status_seq=event.seq,
        )

    def _post(self, event: TransactionPosted) -> bool:
        sums: dict[str, int] = {}
        self.keys.add((bytes.fromhex(event.idempotency_digest), event.seq))
        for number, entry in enumerate(event.entries):
            account, amount = self.accounts[entry.account], int(entry.amount)
            if amount <= 0 or entry.currency != account.currency:
                raise ValueError(f"an entry of {amount} {entry.currency}")
            account.version = event.seq
            if entry.side == "debit":
                account.debits += amount
            else:
                account.credits += amount
            signed = amount if entry.side == "debit" else -amount
            self.entries.add((event.seq, number, account.number, signed, event.effective_date))
            sums[entry.currency] = sums.get(entry.currency, 0) + signed
        return not any(sums.values())


def names_in(event: JournalEvent) -> list[str]:
    """The accounts that an event presupposes."""
    if isinstance(event, TransactionPosted):
        return [entry.account for entry in event.entries]
    return [event.account] if isinstance(event, AccountChanged) else []
