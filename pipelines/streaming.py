"""The fast way: one run of at most ten minutes that lands, builds, checks and publishes in a loop.

dbt stays warm in the process, so a round costs about a second instead of the ten a start does. The
run ends when its time is over or another run waits for the warehouse.
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import structlog
from confluent_kafka import KafkaException

from ledger_service.contract.brokers import refusal
from pipelines.checks import expectations
from pipelines.flow import Flow, Publication, merge
from pipelines.publication.snapshot import Outcome
from pipelines.reports.fbo import MissingReports
from pipelines.warehouse.dbt import DbtError

RUN_S = 540.0
"""Ends before ten minutes are over: the last round takes its time too."""
IDLE_POLL_S = 0.5
LONGEST_REST_S = 10.0
RETRY_BLOCKED_S = 5.0
EXPECTATIONS_EVERY_S = 300.0
REPORTS_PER_ROUND = 10

log = structlog.get_logger()


@dataclasses.dataclass
class Round:
    """One publication (or a refused one) of a streaming run, for whoever reports on it."""

    publication: Publication
    events: int
    seconds: float


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
    flow.recover()
    flow.dbt.parse()
    events, due, rest_until = 0, True, 0.0
    try:
        while time.monotonic() < deadline and not give_way() and not flow.lock.is_wanted():
            landed = _land(flow)
            events += landed
            # Marts that a new result of the suites concerns are published, or blocked, anew.
            due = suites.poll() or due or landed > 0
            if landed:
                flow.write_progress(None)
            if due and time.monotonic() >= rest_until:
                begun = time.monotonic()
                publication = _build_and_publish(flow, suites)
                took = time.monotonic() - begun
                report(Round(publication, events, took))
                # A quarter of the time is left to others: what comes meanwhile lands all the same.
                rest_until = time.monotonic() + min(max(took / 3, IDLE_POLL_S), LONGEST_REST_S)
                events, due = 0, bool(publication.blocked_by)
                if due:
                    rest_until = time.monotonic() + RETRY_BLOCKED_S
            elif not due:
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


def _build_and_publish(flow: Flow, suites: ExpectationsProcess) -> Publication:
    flow.convert()
    try:
        flow.build()
    except DbtError:
        flow.write_progress(["dbt"])
        raise
    publication = flow.publish(merge(suites.outcomes, flow.light_checks()))
    if publication.blocked_by:
        failed = [o.check for o in publication.outcomes if o.check.name in publication.blocked_by]
        # The details may name what only compliance may know; names and the ledger's figures may not.
        log.error("publication.blocked", checks=[check.name for check in failed])
    else:
        suites.start_if_due()
    return publication
