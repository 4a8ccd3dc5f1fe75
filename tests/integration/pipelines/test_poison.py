"""Poison among good events, through a real Kafka: the good ones land, the bad ones wait, and come back.

`make test-poison` does it with 100,000 events.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator

import duckdb
import pytest
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from ledger_service.contract import topics
from ledger_service.contract.events import JournalEvent, encode, event_type
from ledger_service.engine.sources import Source
from ledger_service.engine.topic_settings import topic_settings
from pipelines.ingestion import quarantine, raw, rewriting, typed
from pipelines.ingestion.manifest import Landing
from pipelines.ingestion.store import Disk
from pipelines.ingestion.topic_reader import TopicReader
from pipelines.warehouse import database
from tests import ledger_events, servers
from tests.integration.pipelines.surroundings import typed_contents

EVENTS = int(os.environ.get("EVENTS", "5000"))
LEDGER = "poisoned"
TOPIC = topics.journal_topic(LEDGER)
LARGE = 8 * 1024 * 1024


@dataclasses.dataclass
class Topic:
    """The ledger's topic, which lets in what ours do not: records of up to 8 MiB."""

    kafka: servers.Kafka

    def publish(self, records: list[tuple[int, str, bytes]]) -> None:
        """Make the topic anew, and write these records as the relay does."""
        admin = AdminClient(self.kafka.admin.client())
        if TOPIC in admin.list_topics(timeout=20).topics:
            admin.delete_topics([TOPIC])[TOPIC].result(20)
            while TOPIC in admin.list_topics(timeout=20).topics:
                pass
        settings = {**topic_settings(Source(LEDGER, "journal"), 1), "max.message.bytes": str(LARGE)}
        admin.create_topics([NewTopic(TOPIC, 1, 1, config=settings)])[TOPIC].result(20)
        producer = Producer(
            self.kafka.admin.client(**{"message.max.bytes": LARGE, "linger.ms": 50})
        )
        for seq, kind, content in records:
            headers = topics.headers(
                source=LEDGER, seq=seq, event_type=kind, time="", subject=LEDGER
            )
            producer.produce(TOPIC, value=content, partition=0, headers=headers)
            producer.poll(0)
        assert producer.flush(60) == 0


@pytest.fixture
def topic(kafka: servers.Kafka) -> Iterator[Topic]:
    yield Topic(kafka)
    admin = AdminClient(kafka.admin.client())
    admin.delete_topics([TOPIC])[TOPIC].result(20)


@pytest.fixture
def events() -> list[JournalEvent]:
    history = ledger_events.history(LEDGER, EVENTS)
    return [*history, *ledger_events.declarations(LEDGER, len(history) + 1)]


def as_records(events: list[JournalEvent]) -> list[tuple[int, str, bytes]]:
    return [(event.seq, event_type(event), encode(event)) for event in events]


def poison(records: list[tuple[int, str, bytes]]) -> dict[int, str]:
    """Spoil records here and there; gives the code that each has to have, by `seq`."""
    expected: dict[int, str] = {}

    def spoil(place: int, code: str, change) -> None:
        seq, kind, content = records[place]
        records[place] = (seq, kind, change(content))
        expected[seq] = code

    def altered(**changes):
        return lambda content: json.dumps({**json.loads(content), **changes}).encode()

    step = len(records) // 12
    for turn in range(2):
        first = step * (1 + 5 * turn)
        spoil(first, "not_json", lambda content: content[:-20])
        spoil(first + step, "unknown_version", altered(v=2))
        spoil(first + 2 * step, "bad_field", altered(kind=None))
        spoil(first + 3 * step, "wrong_source", altered(ledger="other"))
        spoil(first + 4 * step, "too_large", altered(metadata={"a": "b" * 5_000_000}))
    return expected


def land_all(kafka: servers.Kafka, landing: Landing) -> None:
    reader, converter = TopicReader(kafka.login("pipelines")), typed.Converter(landing)
    while raw.land(landing, reader, seconds=0.0).events:
        pass
    converter.convert()
    converter.close()
    reader.close()


def in_quarantine(landing: Landing) -> dict[int, str]:
    return {
        one.event.seq: one.event.code for one in quarantine.listing(landing) if one.source == LEDGER
    }


def test_all_good_events_land_all_bad_ones_wait_and_come_back_when_mended(topic, events, tmp_path):
    landing = Landing(Disk(tmp_path / "landing"))
    records = as_records(events)
    expected = poison(records)
    topic.publish(records)
    # The reader of an older version: it does not know the newest type of events.
    newest = {type(event) for event in events[-3:]}
    unknown = {event.seq: "unknown_type" for event in events if type(event) in newest}
    with pytest.MonkeyPatch.context() as patch:
        known = tuple(event for event in typed.JOURNAL_EVENTS if event not in newest)
        patch.setattr(typed, "JOURNAL_EVENTS", known)
        land_all(topic.kafka, landing)
    source = landing.read().sources[LEDGER]
    assert source.seq == source.typed_seq == len(events)
    assert in_quarantine(landing) == {**expected, **unknown}
    assert all(one.event.reason for one in quarantine.listing(landing))
    with duckdb.connect(":memory:") as connection:
        database.make_landing_views(connection, landing)
        landed = connection.execute(
            "select seq from landing.transactions where ledger = $1 order by seq", [LEDGER]
        ).fetchall()
    posted = {event.seq for event in events if event_type(event) == "transaction.posted"}
    assert [seq for (seq,) in landed] == sorted(posted - set(expected))

    # The newer version is installed: what only the code was too old for comes back.
    converter = typed.Converter(landing)
    done = rewriting.requeue(landing, converter, LEDGER)
    converter.close()
    assert (done.tried, done.typed) == (len(expected) + len(unknown), len(unknown))
    assert in_quarantine(landing) == expected

    # The topic is published again from the journal: all is as if it had never been spoilt.
    reader = TopicReader(topic.kafka.login("pipelines"))
    topic.publish(as_records(events[:-1]))
    with pytest.raises(rewriting.TopicNotWholeError, match=f"up to seq {len(events)}"):
        rewriting.reland(landing, reader, LEDGER)
    assert in_quarantine(landing) == expected
    topic.publish(as_records(events))
    rewriting.reland(landing, reader, LEDGER)
    reader.close()
    land_all(topic.kafka, landing)
    landing.sweep()
    assert in_quarantine(landing) == {}
    assert landing.read().sources[LEDGER].rewritten > 0
    never_spoilt = Landing(Disk(tmp_path / "right"))
    land_all(topic.kafka, never_spoilt)
    assert typed_contents(landing) == typed_contents(never_spoilt)


def test_a_topic_of_ours_refuses_a_record_of_5_mb(kafka: servers.Kafka):
    name = topics.journal_topic("narrow")
    admin = AdminClient(kafka.admin.client())
    settings = topic_settings(Source("narrow", "journal"), 1)
    admin.create_topics([NewTopic(name, 1, 1, config=settings)])[name].result(20)
    refused: list[KafkaError | None] = []
    producer = Producer(kafka.admin.client(**{"message.max.bytes": LARGE}))
    producer.produce(
        name,
        value=b"x" * 5_000_000,
        partition=0,
        on_delivery=lambda error, _: refused.append(error),
    )
    producer.flush(20)
    admin.delete_topics([name])[name].result(20)
    (error,) = refused
    assert error.code() == KafkaError.MSG_SIZE_TOO_LARGE
