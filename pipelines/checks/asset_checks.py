"""All checks before publication as asset checks: one that fails stops publication."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import msgspec

from pipelines.checks import expectations
from pipelines.checks.suites import SUITES
from pipelines.publication import snapshot
from pipelines.publication.snapshot import Outcome
from pipelines.resources import POOL, Warehouse


def _mart(name: str) -> dg.AssetKey:
    return dg.AssetKey(["marts", name])


CHECKED: dict[str, dg.AssetKey] = {
    "debits_equal_credits": _mart("entries"),
    "transactions_balance": _mart("entries"),
    "balances_equal_entries": _mart("account_balances_current"),
    "trial_balance_balances": _mart("trial_balance_daily"),
    "pending_equals_open_holds": _mart("account_balances_current"),
    "places_known": _mart("entries"),
    "two_roads_balances": _mart("account_balances_current"),
    "two_roads_trial_balance": _mart("trial_balance_daily"),
    "two_roads_holds": _mart("holds"),
    # On the mart that says how far all of them are: publication waits for marts, not for landings.
    "landing_in_present_form": _mart("build"),
    "landing_without_gaps": _mart("build"),
    "quarantine_empty": _mart("build"),
    **{expectations.check_name(suite): _mart(suite.mart) for suite in SUITES},
}
"""Each check of a publication, and the asset on which Dagster shows it."""
WARNINGS = frozenset({"landing_without_gaps", "quarantine_empty"})


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            name,
            asset=key,
            blocking=name not in WARNINGS,
            # Every mart is there before any check looks, so that all look at the same tables.
            additional_deps=[k for k in sorted(set(CHECKED.values())) if k != key],
        )
        for name, key in CHECKED.items()
    ],
    pool=POOL,
)
def publication_checks(warehouse: Warehouse) -> Iterator[dg.AssetCheckResult]:
    """Run them all once, together; progress says what blocks."""
    with warehouse.flow() as flow:
        frames = flow.places.warehouse / "frames"
        flow.extract_frames(frames)
        outcomes = [*flow.light_checks(), *expectations.run(frames, flow.places.warehouse)]
        (frames / expectations.RESULTS).write_bytes(msgspec.json.encode(outcomes))
        blocked = snapshot.blocked_by(outcomes)
        if blocked:
            flow.write_progress(blocked)
    yield from (_result(outcome) for outcome in outcomes)


def _result(outcome: Outcome) -> dg.AssetCheckResult:
    check = outcome.check
    # What is wrong with a restricted mart stays out of pages that analysts may read.
    detail = "see the restricted Data Docs" if outcome.restricted else check.detail
    return dg.AssetCheckResult(
        check_name=check.name,
        asset_key=CHECKED[check.name],
        passed=check.passed,
        severity=dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN,
        description="" if check.passed else detail,
    )
