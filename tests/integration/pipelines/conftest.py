"""One world for all tests of the flow: topics, a ledger that answers, marts built once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from ledger_service.contract import topics
from ledger_service.contract.events import TransactionPosted
from pipelines.flow import Flow
from pipelines.ledger_api import LedgerApi
from pipelines.places import Places
from tests import ledger_events
from tests.integration.pipelines.surroundings import LedgerOracle, TopicWriter

LEDGER = "flowing"
DAY = "2026-07-02"


@dataclasses.dataclass
class World:
    """A running flow and what feeds it."""

    flow: Flow
    writer: TopicWriter
    oracle: LedgerOracle
    key: str = "test"

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

    def build(self) -> None:
        """Land and build whatever is new."""
        while self.flow.land(seconds=1.0).events:
            pass
        self.flow.convert()
        self.flow.build()

    def publish(self):
        """Check and publish."""
        return self.flow.publish(self.flow.light_checks())


@pytest.fixture(scope="session")
def world(kafka) -> Iterator[World]:
    """Marts built from a ledger of two days, with statements of which one line is a break."""
    # The session's home: other tests that read the dbt project find it parsed there.
    places = Places.from_settings()
    writer, oracle = TopicWriter(kafka), LedgerOracle()
    names = (
        topics.journal_topic(LEDGER),
        topics.stream_topic("statements"),
        topics.stream_topic("parties"),
    )
    for name in names:
        writer.create(name)
    history = ledger_events.history(LEDGER, 60)
    oracle.events[LEDGER] = list(history)
    writer.write_events(history)
    writer.write_events(ledger_events.parties(3))
    writer.write_events(
        ledger_events.statement(LEDGER, DAY, 700, [("credit", 700, "=ACH <7> & 8")])
    )
    with oracle.serving():
        flow = Flow(places, kafka, LedgerApi(oracle.address, "test"))
        one = World(flow, writer, oracle)
        with flow.lock.held(1):
            flow.recover()
            one.build()
            yield one
        flow.close()
    for name in names:
        writer.delete(name)
