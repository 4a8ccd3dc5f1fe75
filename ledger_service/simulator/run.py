"""A scenario on its way into the ledger and to the partner bank, over HTTP like any client.

Keys come from the settings and the number of the transaction, so it may be killed and run again:
nothing doubles, and what is known is skipped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ledger_service.contract.snapshots import write_atomically
from ledger_service.loading.ledger_client import LedgerClient, NewAccount, Posting, batches
from ledger_service.loading.partner_bank import FBO, PartnerBank
from ledger_service.loading.record import LoadRecord, Progress
from ledger_service.simulator.scenario import (
    CLEARED,
    CURRENCY,
    TIME_ZONE,
    Scenario,
    Step,
    answer_key,
)

_BATCH = 2_000
Advance = Callable[[int], None]


class SimulationError(Exception):
    """A simulation that can't be done; `code` is stable, the message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Simulation:
    """One scenario into one ledger."""

    def __init__(self, scenario: Scenario, home: Path) -> None:
        self._scenario = scenario
        self._settings = scenario.settings
        self.key_path = home / "simulations" / f"{self._settings.ledger}.json"
        self._record = LoadRecord(home, f"{self._settings.ledger}-simulated")

    def run(self, api: LedgerClient, bank: PartnerBank, advance: Advance) -> dict[str, Any]:
        """Do what is missing; gives the answer key with what was done.

        Errors: `simulated_otherwise`, `simulation_refused`, and those of the API's and the bank's
        clients.
        """
        started = time.monotonic()
        api.check()
        api.open_ledger(CURRENCY, TIME_ZONE)
        progress = self._progress(api)
        parties = self._open_accounts(api, bank)
        known = progress.row
        advance(known)
        steps = self._scenario.steps[known:]
        for batch in batches(steps, _BATCH):
            self._post(api, batch, parties)
            progress.row += len(batch)
            progress.last_key = batch[-1].idempotency_key
            self._record.save_progress(progress)
            advance(len(batch))
        posted = time.monotonic()
        bank.tell(self._scenario.movements)
        bank.close_days(self._scenario.last_day, stated=False)
        key = {
            **answer_key(self._scenario, parties),
            "posted_now": len(steps),
            "known_before": known,
            "bank_told": bank.is_there,
            "posting_seconds": round(posted - started, 2),
            "seconds": round(time.monotonic() - started, 2),
        }
        write_atomically(self.key_path, msgspec.json.format(msgspec.json.encode(key), indent=2))
        return key

    def _open_accounts(self, api: LedgerClient, bank: PartnerBank) -> list[str]:
        """Register customers with the vault, open their accounts; gives party ids by number."""
        customers = self._scenario.customers
        parties = api.register_parties(
            [
                {
                    **one.personal,
                    "reference": f"{self._settings.ledger}/{self._settings.mark}/{one.number}",
                }
                for one in customers
            ]
        )
        own = [FBO, *(f"clearing:{channel}" for channel in CLEARED)]
        api.open_accounts(
            [NewAccount(account, CURRENCY) for account in own]
            + [
                NewAccount(account, CURRENCY, owner=parties[one.number], floor="0")
                for one in customers
                for account in one.accounts
            ]
        )
        bank.open_fbo(api, CURRENCY, "bai2")
        return parties

    def _progress(self, api: LedgerClient) -> Progress:
        """Where to go on. A ledger takes one scenario: another one would need other accounts."""
        found = self._record.progress()
        if found is None or (found.last_key is not None and not api.is_posted(found.last_key)):
            return Progress(self._settings.mark)
        if found.mapping_sha256 != self._settings.mark:
            raise SimulationError(
                "simulated_otherwise",
                f"The ledger {self._settings.ledger} holds a simulation with other settings; "
                "choose another --ledger, or the settings it was made with.",
            )
        return found

    def _post(self, api: LedgerClient, batch: list[Step], parties: list[str]) -> None:
        postings = [
            Posting(
                step.idempotency_key,
                step.kind,
                step.effective_at,
                step.entries,
                step.context
                if step.conductor is None
                else msgspec.structs.replace(step.context, conductor=parties[step.conductor]),
            )
            for step in batch
        ]
        for step, verdict in zip(batch, api.post_in_order(postings), strict=True):
            if verdict.status not in ("committed", "replayed"):
                raise SimulationError(
                    "simulation_refused",
                    f"The ledger refused {step.kind} of {step.effective_at} ({verdict.code}: "
                    f"{verdict.detail}). It is not as a simulation leaves it; choose another "
                    "--ledger or an earlier --start.",
                )


def summary(key: dict[str, Any]) -> str:
    """One line for people."""
    rules: dict[str, int] = {}
    for case in key["planted"]:
        rules[case["rule"]] = rules.get(case["rule"], 0) + 1
    planted = ", ".join(f"{count} {rule}" for rule, count in rules.items())
    return (
        f"{key['ledger']}: {key['transactions']:,} transactions of {key['customers']:,} customers, "
        f"{key['posted_now']:,} posted now in {key['posting_seconds']:.1f} s; planted: {planted}; "
        f"{len(key['look_alikes'])} look-alikes; {len(key['breaks'])} breaks at the bank"
    )
