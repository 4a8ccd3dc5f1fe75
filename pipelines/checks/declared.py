"""Every check of a publication in one table: the mart it is shown on, and whether it blocks.

A blocking check that fails stops publication and with it reports; the last good snapshot stays, and
`progress.json` names the check. One that warns is shown, told and written into the manifest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ledger_service.contract.snapshots import CheckResult
from pipelines.checks.suites import SUITES
from pipelines.publication.snapshot import Outcome


@dataclasses.dataclass(frozen=True)
class Declared:
    """One line of the table."""

    mart: str
    blocking: bool
    promise: str
    restricted: bool = False
    """Whether only readers of the restricted snapshot may see what it found."""


BLOCKING, WARNING = True, False
CHECKS: dict[str, Declared] = {
    "debits_equal_credits": Declared(
        "entries", BLOCKING, "Debits equal credits per ledger and currency."
    ),
    "transactions_balance": Declared("entries", BLOCKING, "Each transaction balances by itself."),
    "balances_equal_entries": Declared(
        "account_balances_current", BLOCKING, "A balance is the sum of its account's entries."
    ),
    "trial_balance_balances": Declared(
        "trial_balance_daily", BLOCKING, "The closing trial balance balances per currency."
    ),
    "pending_equals_open_holds": Declared(
        "account_balances_current", BLOCKING, "What accounts have pending is what holds left open."
    ),
    "places_known": Declared(
        "entries", BLOCKING, "Every currency has its places, from ISO 4217 or the ledger."
    ),
    "two_roads_balances": Declared(
        "account_balances_current", BLOCKING, "Balances equal the ledger's own at the same seq."
    ),
    "two_roads_trial_balance": Declared(
        "trial_balance_daily", BLOCKING, "The trial balance equals the ledger's at the same seq."
    ),
    "two_roads_holds": Declared("holds", BLOCKING, "Open holds equal the ledger's at that seq."),
    # On the mart that says how far all of them are. A NULL would pass for a fact, so rows that lack
    # what the models read block; marts that stand still are still equal to the ledger at their seq.
    "landing_in_present_form": Declared(
        "build", BLOCKING, "Every typed row has what the models read."
    ),
    "landing_without_gaps": Declared("build", WARNING, "No topic lacks a seq."),
    "quarantine_empty": Declared("build", WARNING, "No event waits in quarantine."),
    "freshness": Declared("build", WARNING, "The marts hold what the ledgers have known for long."),
    # Unusual is not wrong: a person looks, and readers go on.
    "volume": Declared(
        "entries", WARNING, "The last whole banking day has as many entries as days have."
    ),
    "drift_of_kinds": Declared("entries", WARNING, "That day's kinds are mixed as usual."),
    "drift_of_channels": Declared("entries", WARNING, "That day's channels are mixed as usual."),
    "drift_of_amounts": Declared("entries", WARNING, "That day's amounts are as large as usual."),
    **{
        suite.check: Declared(
            suite.mart,
            BLOCKING,
            "Great Expectations, over the newest rows.",
            restricted=suite.snapshot == "restricted",
        )
        for suite in SUITES
    },
}


def outcome(name: str, problems: str, figures: Mapping[str, int] | None = None) -> Outcome:
    """What check `name` found; it has passed where `problems` is empty.

    `figures` are numbers that Dagster plots. Errors: KeyError for a check that is not declared.
    """
    check = CHECKS[name]
    result = CheckResult(name, passed=not problems, blocking=check.blocking, detail=problems)
    shown = {} if check.restricted else dict(figures or {})
    return Outcome(result, restricted=check.restricted, figures=shown)
