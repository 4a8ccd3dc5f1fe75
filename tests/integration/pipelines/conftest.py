"""One world for all tests of the flow: topics, a ledger that answers, marts of one streaming run."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import httpx
import msgspec
import pytest

from ledger_service.contract import topics
from ledger_service.contract.events import TransactionPosted
from ledger_service.contract.snapshots import NAMES, Progress, read_progress
from pipelines import streaming
from pipelines.flow import Flow
from pipelines.ledger_api import LedgerApi
from pipelines.places import Places
from tests import ledger_events
from tests.integration.pipelines.surroundings import LedgerOracle, TopicWriter

LEDGER = "flowing"
DAY = "2026-07-02"


_buckets = itertools.count(1)


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of an S3 server that honours conditional writes, named in AWS_*."""
    # Imported late: it takes seconds, which a process that only collects these tests can spare.
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", address)
        patch.setenv("AWS_ALLOW_HTTP", "true")
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_ACCESS_KEY_ID", "tests")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
        yield address
    server.stop()


@pytest.fixture
def bucket(s3: str) -> str:
    """A fresh bucket and a prefix in it, as the setting names it."""
    name = f"landing{next(_buckets)}"
    httpx.put(f"{s3}/{name}").raise_for_status()
    return f"s3://{name}/some/prefix"


@dataclasses.dataclass
class World:
    """A running flow, what feeds it, and what its streaming run reported."""

    flow: Flow
    writer: TopicWriter
    oracle: LedgerOracle
    rounds: list[streaming.Round] = dataclasses.field(default_factory=list)
    """Both snapshots of all there is, then both of what was posted meanwhile."""
    progress: Progress | None = None
    """What the flow said of itself after the last round."""

    def post(
        self, amount: int, *, debit: str = ledger_events.FBO, credit: str = ""
    ) -> TransactionPosted:
        """Post one more transaction, in the ledger and its topic."""
        seq = self.oracle.events[LEDGER][-1].seq + 1
        credit = credit or ledger_events.customer(0)
        event = ledger_events.posting(
            LEDGER, seq, "deposit", debit=debit, credit=credit, amount=amount
        )
        self.oracle.events[LEDGER].append(event)
        self.writer.write_events([event])
        return event

    def stream(self) -> None:
        """Publish what there is and, in the next round, a posting that comes in between."""

        def report(one: streaming.Round) -> None:
            self.rounds.append(one)
            if len(self.rounds) == 1:
                self.post(1_00)

        streaming.stream(
            self.flow, seconds=180, give_way=lambda: len(self.rounds) == 4, report=report
        )
        self.progress = read_progress(self.flow.places.snapshots)

    def publish(self):
        """Check and publish."""
        return self.flow.publish(self.flow.light_checks())


@pytest.fixture(scope="session")
def world(kafka) -> Iterator[World]:
    """A ledger of two days, with holds and statements of which one line is a break, and its marts."""
    # The session's home: other tests that read the dbt project find it parsed there.
    places = Places.from_settings()
    writer, oracle = TopicWriter(kafka.admin), LedgerOracle()
    names = (
        topics.journal_topic(LEDGER),
        topics.stream_topic("statements"),
        topics.stream_topic("parties"),
    )
    for name in names:
        writer.create(name)
    history = ledger_events.history(LEDGER, 60)
    held = ledger_events.holds_and_periods(LEDGER, len(history) + 1)
    history += held
    # Three that stay open, so that there are pages of them.
    history += [
        msgspec.structs.replace(held[2], seq=len(history) + n, idempotency_digest=f"{n:064x}")
        for n in (1, 2, 3)
    ]
    oracle.events[LEDGER] = list(history)
    writer.write_events(history)
    writer.write_events(ledger_events.parties(3))
    writer.write_events(
        ledger_events.statement(LEDGER, DAY, 700, [("credit", 700, "=ACH <7> & 8")])
    )
    with oracle.serving():
        flow = Flow(places, kafka.login("pipelines"), LedgerApi(oracle.address, "test"))
        one = World(flow, writer, oracle)
        with flow.lock.held(1):
            with pytest.MonkeyPatch.context() as patch:
                # Great Expectations has a test of its own; here it would only take processor time.
                patch.setattr(streaming.ExpectationsProcess, "start_if_due", lambda _self: None)
                patch.setattr(streaming, "LONGEST_REST_S", dict.fromkeys(NAMES, 0.0))
                one.stream()
            yield one
        flow.close()
    for name in names:
        writer.delete(name)
