"""All checks before publication as asset checks: one that fails stops publication."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import msgspec

from pipelines.checks import expectations
from pipelines.checks.declared import CHECKS
from pipelines.publication import snapshot
from pipelines.publication.snapshot import Outcome
from pipelines.resources import POOL, Warehouse


def _mart(name: str) -> dg.AssetKey:
    return dg.AssetKey(["marts", name])


_CHECKED = sorted({_mart(check.mart) for check in CHECKS.values()})


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            name,
            asset=_mart(check.mart),
            blocking=check.blocking,
            description=check.promise,
            # Every mart is there before any check looks, so that all look at the same tables.
            additional_deps=[key for key in _CHECKED if key != _mart(check.mart)],
        )
        for name, check in CHECKS.items()
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
        site = expectations.site(flow.places.warehouse, "general") / "index.html"
    yield from (_result(outcome, str(site)) for outcome in outcomes)


def _result(outcome: Outcome, site: str) -> dg.AssetCheckResult:
    check = outcome.check
    # What is wrong with a restricted mart stays out of pages that analysts may read.
    detail = "see the restricted Data Docs" if outcome.restricted else check.detail
    of_suite = check.name.startswith("expectations_") and not outcome.restricted
    docs = {"data docs": dg.MetadataValue.path(site)} if of_suite else {}
    return dg.AssetCheckResult(
        check_name=check.name,
        asset_key=_mart(CHECKS[check.name].mart),
        passed=check.passed,
        severity=dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN,
        description="" if check.passed else detail,
        metadata={**outcome.figures, **docs},
    )
