"""One load, from the file to the ledger, the partner bank, the manifest and the quarantine.

It runs in two passes: a survey, which posts nothing and refuses what can't be done, and the
posting. Keys come from the file and the row, so a row is posted once whatever is killed when; a
second run skips what is known and goes on from there.
"""

from __future__ import annotations

import datetime as dt
import itertools
import time
from collections.abc import Callable, Iterator
from decimal import localcontext
from typing import Any
from zoneinfo import ZoneInfo

from ledger_service.contract import environment
from ledger_service.loading.accounts_file import ListedAccount, listed_accounts
from ledger_service.loading.commands import Command, Commands
from ledger_service.loading.errors import LoadError
from ledger_service.loading.ledger_client import LedgerClient, NewAccount, Verdict, batches
from ledger_service.loading.mapping import Mapping
from ledger_service.loading.names import KeyedNames, letters
from ledger_service.loading.partner_bank import FBO, PartnerBank
from ledger_service.loading.plan import EXACT, Planner, Rejected, Transfer, stated_minor
from ledger_service.loading.record import LoadRecord, Progress, Refused
from ledger_service.loading.source import Source
from ledger_service.loading.survey import Survey, reasons, survey

CONCURRENCY = 4
_KEPT_ROWS = 200_000
"""Planned rows kept between the two passes: some 100 MB. A larger file is read twice."""
_BATCH_ROWS = 2_000
"""A client can't read answers while it still writes: both must fit the buffers on the way."""
Advance = Callable[[int], None]
"""Told how many more rows are decided."""


class Load:
    """One file into one ledger by one mapping. `limit`: only the first rows of the file."""

    def __init__(
        self,
        source: Source,
        mapping: tuple[Mapping, str],
        ledger: str | None = None,
        limit: int | None = None,
    ) -> None:
        self.mapping, self._mapping_sha256 = mapping
        self.source, self._limit = source, limit
        self.ledger = ledger or self.mapping.ledger
        self._mark = letters(source.sha256, 12)
        self.name = f"{self.ledger}-{self._mark}"
        home = environment.home()
        self.record = LoadRecord(home, self.name)
        keyed = self.mapping.accounts.naming == "keyed"
        self._kept: list[Transfer | Rejected] = []
        self._planner = Planner(self.mapping, KeyedNames(home) if keyed else lambda name: name)

    def _planned(self) -> Iterator[Transfer | Rejected]:
        """Every row as it is planned; of a file that is not large, planned once."""
        if self._kept:
            yield from self._kept
            return
        kept: list[Transfer | Rejected] = []
        rows = itertools.islice(self.source.rows(self.mapping.used_columns()), self._limit)
        for planned in self._planner.plan(rows):
            if len(kept) <= _KEPT_ROWS:
                kept.append(planned)
            yield planned
        if len(kept) <= _KEPT_ROWS:
            self._kept = kept

    def run(
        self, api: LedgerClient, bank: PartnerBank, begin: Advance, advance: Advance
    ) -> dict[str, Any]:
        """Do what is missing of the load; gives its manifest. `begin` is told the number of rows.

        Errors: LoadError, and those of the API's and the bank's clients.
        """
        started = time.monotonic()
        found = survey(self._planned())
        listed = listed_accounts(self.source.path, self.mapping, self._planner)
        begin(found.rows)
        api.check()
        commands = Commands(self.ledger, self.mapping, self._mark, bank.fbo_number)
        api.open_ledger(self.mapping.currency, self.mapping.time_zone)
        progress = self._progress(api)
        self._open_accounts(api, bank, found, listed)
        known = min(progress.row, found.rows)
        advance(known)
        if not known:
            self._open_balances(api, bank, commands, found, listed)
        self._post(api, bank, commands, progress, advance)
        posted = time.monotonic()
        stated = self._state_balances(bank, found)
        self._save_quarantine(found, progress)
        manifest = {
            **self._manifest(found, progress, listed),
            "stated_balances": stated,
            "bank_told": bank.is_there,
            "rows_known_before": known,
            "seconds_until_posted": round(posted - started, 2),
            "seconds": round(time.monotonic() - started, 2),
        }
        self.record.save_manifest(manifest)
        return manifest

    def _open_accounts(
        self, api: LedgerClient, bank: PartnerBank, found: Survey, listed: list[ListedAccount]
    ) -> None:
        currency = self.mapping.currency
        owned = [one for one in listed if one.party is not None]
        parties = api.register_parties(
            [{**(one.party or {}), "reference": f"{self.ledger}/{one.account}"} for one in owned]
        )
        owners = {one.account: party for one, party in zip(owned, parties, strict=True)}
        accounts = dict.fromkeys([*(one.account for one in listed), *found.accounts])
        api.open_accounts(
            [
                NewAccount(FBO, currency),
                *(NewAccount(account, currency, owners.get(account)) for account in accounts),
            ]
        )
        bank.open_fbo(api, currency, "camt.053")
        if found.stated:
            stated = sorted({account for account, _ in found.stated})
            rounded = 1 if self.mapping.rounding == "half_even" else 0
            bank.open_stated(api, currency, stated, rounded)

    def _progress(self, api: LedgerClient) -> Progress:
        """Where to go on: what this home remembers, if the ledger confirms it."""
        found = self.record.progress()
        if found is None or (found.last_key is not None and not api.is_posted(found.last_key)):
            return Progress(self._mapping_sha256)
        if found.mapping_sha256 != self._mapping_sha256:
            raise LoadError(
                "loaded_by_another_mapping",
                f"This file is in ledger {self.ledger} already, by another text of the mapping. "
                "Load it into another ledger (--ledger), or use the mapping it was loaded by.",
            )
        return found

    def _open_balances(
        self,
        api: LedgerClient,
        bank: PartnerBank,
        commands: Commands,
        found: Survey,
        listed: list[ListedAccount],
    ) -> None:
        assert found.first_day is not None  # noqa: S101 - a survey without rows is refused
        noon = dt.datetime.combine(found.first_day, dt.time(12), ZoneInfo(self.mapping.time_zone))
        opened = [
            commands.opening(number, one.account, one.opening_balance, noon)
            for number, one in enumerate(listed, 1)
            if one.opening_balance
        ]
        for batch in batches(opened, _BATCH_ROWS):
            verdicts = api.post([command.posting for command in batch])
            _refuse_conflict(verdicts)
            for command, verdict in zip(batch, verdicts, strict=True):
                if verdict.status == "refused":
                    raise LoadError(
                        str(verdict.code),
                        f"The opening balance in row {command.row} of the accounts file was "
                        f"refused: {verdict.detail}",
                    )
            bank.tell([command.movement for command in batch if command.movement])

    def _post(
        self,
        api: LedgerClient,
        bank: PartnerBank,
        commands: Commands,
        progress: Progress,
        advance: Advance,
    ) -> None:
        """Post every row past `progress`, which follows."""
        new = (
            commands.transfer(planned)
            for planned in self._planned()
            if isinstance(planned, Transfer) and planned.row > progress.row
        )
        waiting: list[list[Command]] = []

        def postings() -> Iterator[list[Any]]:
            for batch in batches(new, _BATCH_ROWS):
                waiting.append(batch)
                yield [command.posting for command in batch]

        for verdicts in api.post_batches(postings(), CONCURRENCY):
            batch = waiting.pop(0)
            _refuse_conflict(verdicts)
            moved = []
            for command, verdict in zip(batch, verdicts, strict=True):
                if verdict.status == "refused":
                    code, detail = str(verdict.code), str(verdict.detail)
                    progress.refused.append(Refused(command.row, code, detail))
                elif command.movement:
                    moved.append(command.movement)
            bank.tell(moved)
            advance(batch[-1].row - progress.row)
            progress.row, progress.last_key = batch[-1].row, batch[-1].posting.idempotency_key
            self.record.save_progress(progress)

    def _state_balances(self, bank: PartnerBank, found: Survey) -> int:
        """Turn stated balances into statements, and have all days closed."""
        if self._limit is not None:
            # A part of a file has no end of day.
            return 0
        assert found.last_day is not None  # noqa: S101 - a survey without rows is refused
        balances = [
            (account, day, balance)
            for (account, day), text in sorted(found.stated.items())
            if (balance := stated_minor(text, self.mapping.currency)) is not None
        ]
        bank.state(balances)
        bank.close_days(found.last_day, stated=bool(balances))
        return len(balances)

    def _save_quarantine(self, found: Survey, progress: Progress) -> None:
        rows: list[dict[str, Any]] = [
            {"row": one.row, "reason": one.reason, "detail": one.detail, "fields": one.fields}
            for one in found.rejected
        ]
        rows += [
            {"row": one.row, "reason": one.code, "detail": one.detail, "fields": {}}
            for one in progress.refused
        ]
        self.record.save_quarantine(sorted(rows, key=lambda row: row["row"]))

    def _manifest(
        self, found: Survey, progress: Progress, listed: list[ListedAccount]
    ) -> dict[str, Any]:
        quarantined = reasons(found.rejected)
        for one in progress.refused:
            quarantined[one.code] = quarantined.get(one.code, 0) + 1
        used = {*self.mapping.used_columns(), *self.mapping.ignored}
        with localcontext(EXACT):
            source_total = found.accepted_source + found.rejected_source
        return {
            "load": self.name,
            "ledger": self.ledger,
            "file": self.source.path.name,
            "file_sha256": self.source.sha256,
            "mapping": f"{self.mapping.name}/{self.mapping.version}",
            "mapping_sha256": self._mapping_sha256,
            "limited_to_rows": self._limit,
            "rows": found.rows,
            "posted": found.accepted - len(progress.refused),
            "quarantined": quarantined,
            "accounts": len(found.accounts),
            "opening_balances": sum(1 for one in listed if one.opening_balance),
            "currency": self.mapping.currency,
            "source_amount_total": f"{source_total:f}",
            "source_amount_quarantined": f"{found.rejected_source:f}",
            "accepted_minor_total": str(found.accepted_minor),
            "residual_minor_total": f"{found.residual:f}",
            "first_day": str(found.first_day),
            "last_day": str(found.last_day),
            "unknown_columns": [name for name in self.source.columns if name not in used],
        }


def _refuse_conflict(verdicts: list[Verdict]) -> None:
    """A key that stands for something else: a mapping said otherwise before."""
    if any(verdict.code == "idempotency_conflict" for verdict in verdicts):
        raise LoadError(
            "loaded_by_another_mapping",
            "Rows of this file are in the ledger already, as something else: by another text of "
            "the mapping. Load it into another ledger (--ledger).",
        )
