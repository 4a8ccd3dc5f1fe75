"""The way of an event through the pipelines, step by step; both speeds and the command walk it.

The caller holds the warehouse's lock. Each step leaves the files whole, and doing it again changes
nothing: after a crash the next caller begins with `recover` and goes on.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import duckdb

from ledger_service.contract import failpoints
from ledger_service.contract.brokers import Brokers
from ledger_service.contract.schemas import STREAM_EVENTS
from ledger_service.contract.snapshots import NAMES, CheckResult, Manifest, SnapshotName
from pipelines.checks.declared import outcome
from pipelines.checks.freshness import check_freshness
from pipelines.checks.identities import check_identities
from pipelines.checks.trends import check_trends
from pipelines.checks.two_roads import check_two_roads
from pipelines.ingestion import archive, raw, rewriting
from pipelines.ingestion.compaction import compact
from pipelines.ingestion.manifest import Landing
from pipelines.ingestion.quarantine import Poison
from pipelines.ingestion.topic_reader import TopicReader
from pipelines.ingestion.typed import Converter
from pipelines.ledger_api import LedgerApi
from pipelines.places import Places
from pipelines.publication import catalogue, snapshot
from pipelines.publication.parts import KnownParts, Mart, MartTypeError
from pipelines.publication.snapshot import Outcome
from pipelines.warehouse import database
from pipelines.warehouse.dbt import Dbt, published_marts
from pipelines.warehouse.lock import WarehouseLock
from pipelines.warehouse.version import code_version


@dataclasses.dataclass(frozen=True)
class Publication:
    """What a try to publish came to."""

    manifests: dict[SnapshotName, Manifest]
    """Empty where a check stood in the way."""
    blocked_by: list[str]
    outcomes: list[Outcome]


class Flow:
    """All steps, over one set of places, one Kafka and one ledger API."""

    def __init__(self, places: Places, brokers: Brokers, api: LedgerApi) -> None:
        self.places = places
        self.lock = WarehouseLock(places.warehouse)
        self.landing = Landing.at(places.landing, places.cache, places.archive)
        self.dbt = Dbt(places)
        self.api = api
        self.reader = TopicReader(brokers)
        self.refused: dict[str, str] = {}
        """Sources that stand still because their topic has a gap, and which."""
        self._converter = Converter(self.landing)
        self._known_parts = KnownParts()
        self._balanced: dict[str, int] = {}
        """By ledger, up to which `seq` this process has found that each transaction balances."""

    @classmethod
    def from_settings(cls) -> Flow:
        """What the environment names. Errors: `MissingSetting`, `BrokerSettingError`, ValueError."""
        failpoints.arm_from_environment()
        return cls(Places.from_settings(), Brokers.from_settings(), LedgerApi.from_settings())

    def close(self) -> None:
        """Let go of Kafka, the API and memory."""
        self.reader.close()
        self.api.close()
        self._converter.close()

    def recover(self) -> None:
        """Take the landing over, show dbt what its manifest names, remove what a crash left behind.

        Errors: `LandingTakenError` where another process does the same.
        """
        self.landing.hold()
        self._refresh_views()
        self.landing.sweep()

    def land(self, seconds: float = 0.2) -> raw.Step:
        """Land what is new, raw. Errors: `KafkaException`, `LandingTakenError`."""
        step = raw.land(self.landing, self.reader, seconds=seconds)
        self.refused = step.refused
        return step

    def convert(self) -> int:
        """Bring the typed landing up to the raw one and show it to dbt; gives events converted."""
        events = self._converter.convert()
        joined = compact(self.landing)
        self._refresh_views()
        if joined:
            self.landing.sweep()
        self.write_progress(None)
        return events

    def requeue(self, source: str, wanted: Callable[[Poison], bool]) -> rewriting.Requeued:
        """`rewriting.requeue`, shown to dbt."""
        done = rewriting.requeue(self.landing, self._converter, source, wanted)
        self.recover()
        return done

    def retype(self, source: str) -> int:
        """`rewriting.retype`, shown to dbt."""
        events = rewriting.retype(self.landing, self._converter, source)
        self.recover()
        return events

    def retype_outdated(self) -> None:
        """Type anew what was typed in another form than today's."""
        for name in rewriting.outdated(self.landing.read()):
            self.retype(name)

    def reland(self, source: str) -> None:
        """`rewriting.reland`: to be followed by a landing."""
        rewriting.reland(self.landing, self.reader, source)
        self.recover()

    def archive(self, keep: int) -> dict[str, int]:
        """`archive.archive`, as far as the ledgers' checkpoints go. Errors: `httpx.HTTPError`."""
        ledgers = [name for name in self.landing.read().sources if name not in STREAM_EVENTS]
        found = {name: self.api.latest_checkpoint(name) for name in ledgers}
        proven = {name: checkpoint.size for name, checkpoint in found.items() if checkpoint}
        return archive.archive(self.landing, proven, keep)

    def build(
        self, names: Sequence[SnapshotName] = NAMES, *, full_refresh: bool = False
    ) -> Sequence[SnapshotName]:
        """Bring the marts of these snapshots up to the typed landing; gives those it did.

        Increments look ahead of what they have; where rows came behind it, all is built anew, of
        both snapshots. `restricted` alone is built of what the other was built of. Errors: `DbtError`.
        """
        if full_refresh or ("general" in names and self.is_rewritten()):
            names, full_refresh = NAMES, True
            self._forget()
        failpoints.reach("dbt.before_run")
        self.dbt.run(names, full_refresh=full_refresh)
        failpoints.reach("dbt.after_run")
        if "general" in names:
            self.note_built()
        failpoints.reach("dbt.after_note")
        return names

    def is_rewritten(self) -> bool:
        """Whether the typed landing has new rows behind what the marts were built up to."""
        with database.opened(self.places.warehouse_file) as connection:
            return database.is_rewritten(connection)

    def note_built(self) -> None:
        """The marts are built from all that the landing shows."""
        with database.opened(self.places.warehouse_file) as connection:
            database.note_built(connection)

    def marts(self) -> list[Mart]:
        """The marts that are published."""
        return published_marts(self.dbt.parse())

    def light_checks(self) -> list[Outcome]:
        """The checks of every publication: all that are declared but the suites."""
        with database.opened(self.places.warehouse_file) as connection:
            as_of = snapshot.read_as_of(connection)
            outcomes = self._check_identities(connection, as_of)
            outcomes += check_two_roads(connection, self.api, as_of)
            outcomes += check_trends(connection)
            outcomes.append(check_freshness(self.api, as_of))
        outcomes += self._landing_checks()
        failpoints.reach("checks.after")
        return outcomes

    def extract_frames(self, folder: Path) -> None:
        """Write the windows that Great Expectations looks at."""
        from pipelines.checks import expectations

        shutil.rmtree(folder, ignore_errors=True)
        with database.opened(self.places.warehouse_file) as connection:
            expectations.extract(connection, folder)

    def publish(
        self, outcomes: Sequence[Outcome], names: Sequence[SnapshotName] = NAMES
    ) -> Publication:
        """Publish these snapshots, unless a blocking check failed; either way progress says so."""
        blocked = snapshot.blocked_by(outcomes)
        manifests: dict[SnapshotName, Manifest] = {}
        if not blocked:
            with database.opened(self.places.warehouse_file) as connection:
                try:
                    manifests = snapshot.publish(
                        connection,
                        self.places.snapshots,
                        self.marts(),
                        outcomes,
                        code_version=code_version(),
                        known=self._known_parts,
                        names=names,
                    )
                except MartTypeError as refusal:
                    check = CheckResult("mart_types", False, True, str(refusal))  # noqa: FBT003
                    outcomes = [*outcomes, Outcome(check)]
                    blocked = [check.name]
        self.write_progress(blocked)
        return Publication(manifests, blocked, list(outcomes))

    def document(self) -> list[Path]:
        """Write dbt's documentation beside each snapshot; gives the files. Errors: `DbtError`."""
        content = self.dbt.document()
        return [catalogue.write_site(self.places.snapshots, name, *content) for name in NAMES]

    def write_progress(self, blocked: Sequence[str] | None) -> None:
        """Say how far the pipelines are; `blocked` None leaves that as it was."""
        manifest = self.landing.read()
        snapshot.write_progress(
            self.places.snapshots, manifest.landed, manifest.quarantined, blocked
        )

    def drop_warehouse(self) -> None:
        """Forget all tables; the landing and the snapshots stay, and everything can be rebuilt."""
        file = self.places.warehouse_file
        for path in (file, file.with_name(file.name + ".wal")):
            path.unlink(missing_ok=True)
        self.dbt.forget_warehouse()
        self._forget()

    def _forget(self) -> None:
        """What was found out about the warehouse holds no more."""
        self._known_parts.forget()
        self._balanced = {}

    def _refresh_views(self) -> None:
        with database.opened(self.places.warehouse_file) as connection:
            database.make_landing_views(connection, self.landing)

    def _check_identities(
        self, connection: duckdb.DuckDBPyConnection, as_of: Mapping[str, int]
    ) -> list[Outcome]:
        """The first time in a process of all transactions, then of those that came since."""
        ledgers = {name: seq for name, seq in as_of.items() if name not in STREAM_EVENTS}
        is_known = self._balanced.keys() >= ledgers.keys()
        since = min(self._balanced.values(), default=0) if is_known else 0
        outcomes = check_identities(connection, since)
        if not snapshot.blocked_by(outcomes):
            self._balanced = ledgers
        return outcomes

    def _landing_checks(self) -> list[Outcome]:
        manifest = self.landing.read()
        gaps = "; ".join(f"{name}: {reason}" for name, reason in self.refused.items())
        waiting = manifest.quarantined
        detail = f"{waiting} events wait: see `tally pipeline quarantine`" if waiting else ""
        old = "; ".join(rewriting.outdated(manifest).values())
        return [
            outcome("landing_in_present_form", old),
            outcome("landing_without_gaps", gaps),
            outcome("quarantine_empty", detail, {"quarantined": waiting}),
        ]


def merge(*parts: Sequence[Outcome]) -> list[Outcome]:
    """All outcomes, the last one of each check."""
    latest: dict[str, Outcome] = {}
    for outcomes in parts:
        latest.update({outcome.check.name: outcome for outcome in outcomes})
    return list(latest.values())
