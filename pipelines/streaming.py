"""The fast way: one run of at most ten minutes that lands, builds, checks and publishes in a loop.

dbt stays warm in the process, so a round costs about a second instead of the ten a start does. The
rules go over the whole past of whoever moved, so they take their time: each has a pace of its own,
`restricted` a quarter of the time at most. The run ends when its time is over or another run waits
for the warehouse.
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import httpx
import structlog
from confluent_kafka import KafkaException

from ledger_service.contract.brokers import refusal
from ledger_service.contract.snapshots import NAMES, SnapshotName
from pipelines.checks import expectations
from pipelines.flow import Flow, Publication, merge
from pipelines.publication.snapshot import Outcome
from pipelines.reports.fbo import MissingReports
from pipelines.warehouse.dbt import DbtError

RUN_S = 540.0
"""Ends before ten minutes are over: the last round takes its time too."""
IDLE_POLL_S = 0.5
RESTS: dict[SnapshotName, float] = {"general": 1 / 10, "restricted": 3.0}
"""How long each snapshot's work rests, in times of what it took."""
LONGEST_REST_S: dict[SnapshotName, float] = {"general": 10.0, "restricted": 60.0}
RETRY_BLOCKED_S = 5.0
EXPECTATIONS_EVERY_S = 300.0
REPORTS_PER_ROUND = 10

log = structlog.get_logger()


@dataclasses.dataclass
class Round:
    """One publication (or a refused one) of a streaming run, for whoever reports on it."""

    publication: Publication
    events: int
    """What had landed since the last one of the same snapshot."""
    seconds: float


@dataclasses.dataclass
class Pace:
    """Publication of a snapshot again and again, whenever there is something new, and a rest then.

    The rest is `times` what the work took, within bounds: however long it takes, the rest of the
    time is left to others.
    """

    times: float
    longest_s: float
    events: int = 0
    """Landed since the last publication."""
    is_due: bool = True
    rest_until: float = 0.0

    def note(self, landed: int, *, is_new: bool) -> None:
        """So many events have landed; `is_new` if there is a reason to publish."""
        self.events += landed
        self.is_due = self.is_due or is_new

    def is_ready(self) -> bool:
        """Whether there is something to do, and the rest is over."""
        return self.is_due and time.monotonic() >= self.rest_until

    def work(
        self, publish: Callable[[], Publication], report: Callable[[Round], None]
    ) -> Publication:
        """Publish now, and rest; what was blocked is tried again soon, whatever is new."""
        begun = time.monotonic()
        publication = publish()
        took = time.monotonic() - begun
        if publication.blocked_by:
            # Their details may name what only compliance may know.
            log.error("publication.blocked", checks=publication.blocked_by)
        report(Round(publication, self.events, took))
        self.is_due = bool(publication.blocked_by)
        rest = min(max(took * self.times, IDLE_POLL_S), self.longest_s)
        self.rest_until = time.monotonic() + (RETRY_BLOCKED_S if self.is_due else rest)
        self.events = 0
        return publication


class ExpectationsProcess:
    """Great Expectations in a process of its own: its import would hold up the loop for seconds."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._frames: Path = flow.places.warehouse / "frames"
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        """When the last evaluation began (that of an earlier run: ended), in seconds of the epoch."""
        self.outcomes: list[Outcome] = []
        """What the last finished process found."""
        self._take_up()

    def _take_up(self) -> None:
        """Go on from what an earlier run found, if it is fresh and good; the rest is looked at anew."""
        with contextlib.suppress(FileNotFoundError):
            written = (self._frames / expectations.RESULTS).stat().st_mtime
            found = expectations.read_results(self._frames)
            if all(outcome.check.passed for outcome in found):
                self.outcomes, self._started = found, written

    def is_due(self) -> bool:
        """Whether it is time for a new evaluation: none is under way, and the last is minutes old."""
        return self._process is None and time.time() - self._started >= EXPECTATIONS_EVERY_S

    def start_if_due(self) -> None:
        """Begin a new evaluation of what is in the marts now, at most every few minutes."""
        if self.is_due():
            self._flow.extract_frames(self._frames)
            self._started = time.time()
            warehouse = str(self._flow.places.warehouse)
            self._process = subprocess.Popen(
                [sys.executable, "-m", expectations.__name__, str(self._frames), warehouse],
                stdout=subprocess.DEVNULL,
            )

    def poll(self) -> bool:
        """Take the results of a process that has ended; gives whether there are new ones."""
        if self._process is None or self._process.poll() is None:
            return False
        self._process = None
        self.outcomes = expectations.read_results(self._frames)
        return True

    def stop(self) -> None:
        """End a process that is still at it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


def stream(
    flow: Flow,
    *,
    seconds: float = RUN_S,
    give_way: Callable[[], bool],
    report: Callable[[Round], None],
) -> None:
    """Go round until `seconds` are over, `give_way` says so or somebody waits for the lock.

    The caller holds the lock. Failures of Kafka or the API end nothing: the next round tries again,
    and progress says what is blocked. Errors: `DbtError`.
    """
    deadline = time.monotonic() + seconds
    suites = ExpectationsProcess(flow)
    reports = MissingReports(flow.places, flow.api)
    paces = {name: Pace(RESTS[name], LONGEST_REST_S[name]) for name in NAMES}
    latest: Publication | None = None
    flow.recover()
    flow.dbt.parse()
    try:
        while time.monotonic() < deadline and not give_way() and not flow.lock.is_wanted():
            landed = _land(flow)
            if landed:
                flow.write_progress(None)
            # Marts that a new result of the suites concerns are published, or blocked, anew.
            is_new = suites.poll() or landed > 0
            for pace in paces.values():
                pace.note(landed, is_new=is_new)
            if paces["general"].is_ready():
                latest = paces["general"].work(partial(_publish_general, flow, suites), report)
            # Never made of what `general` does not show.
            if paces["restricted"].is_ready() and latest and not latest.blocked_by:
                paces["restricted"].work(partial(_publish_rules, flow, suites, latest), report)
                suites.start_if_due()
            if not paces["general"].is_due:  # they are made of it alone
                _build_reports(reports)
    finally:
        suites.stop()


def _land(flow: Flow) -> int:
    try:
        return flow.land(IDLE_POLL_S).events
    except KafkaException as failure:
        said = refusal(failure)
        log.warning("landing.interrupted", code=said.code, detail=said.message)
        time.sleep(1.0)
        return 0


def _build_reports(reports: MissingReports) -> None:
    try:
        reports.build_some(REPORTS_PER_ROUND)
    except httpx.HTTPError as failure:
        log.warning("reports.api_unreachable", detail=str(failure))


def _publish_general(flow: Flow, suites: ExpectationsProcess) -> Publication:
    flow.convert()
    built = _build(flow, ("general",))
    return flow.publish(merge(suites.outcomes, flow.light_checks()), built)


def _publish_rules(flow: Flow, suites: ExpectationsProcess, latest: Publication) -> Publication:
    """`latest` is of the marts beneath as they stand, and so are the outcomes of its checks."""
    built = _build(flow, ("restricted",))
    return flow.publish(merge(latest.outcomes, suites.outcomes), built)


def _build(flow: Flow, names: Sequence[SnapshotName]) -> Sequence[SnapshotName]:
    try:
        return flow.build(names)
    except DbtError:
        flow.write_progress(["dbt"])
        raise
