"""What is in Kafka is exactly what is in the journal, in order, byte for byte (P7)."""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
import time

import psycopg
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from ledger_service.contract import topics
from ledger_service.contract.brokers import Brokers
from ledger_service.contract.events import encode
from ledger_service.engine import relay as relay_module
from ledger_service.engine import sources, topic_settings
from ledger_service.engine.relay import Publisher, last_committed
from ledger_service.engine.sources import BATCH_EVENTS, RelayError, Source
from ledger_service.engine.topic_settings import ensure_topic
from tests import ledger_events

_names = itertools.count(1)


@pytest.fixture
def ledger() -> str:
    return f"relayed{next(_names)}"


def read_topic(brokers: Brokers, topic: str) -> list[tuple[int, bytes]]:
    """Every committed record: seq of the header, and value."""
    consumer = Consumer(brokers.reader())
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = []
    while (record := consumer.poll(10)).error() is None:
        found.append((int(dict(record.headers())["ts_seq"]), record.value()))
    assert record.error().code() == KafkaError._PARTITION_EOF
    consumer.close()
    return found


@pytest.fixture
def publisher(ledger_database, kafka, ledger):
    """A function that gives a publisher of the ledger's journal."""
    with contextlib.ExitStack() as opened:

        def make() -> Publisher:
            one = Publisher(
                Source(ledger, "journal"),
                database_url=ledger_database.url("relay"),
                brokers=kafka.login("relay"),
                replication=1,
            )
            opened.callback(one.close)
            return one

        yield make


def wait_for(condition, seconds: float = 30):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
    return value


def test_kill_at_any_time_leaves_kafka_equal_to_the_journal(ledger_database, kafka, ledger, relay):
    events = ledger_events.history(ledger, 15_000)
    ledger_events.store_journal(ledger_database.owner_url, events)
    ledger_events.store_stream(ledger_database.owner_url, ledger_events.parties(3))
    topic = topics.journal_topic(ledger)

    def position(process) -> int:
        return process.readiness().get("sources", {}).get(topic, {}).get("seq", 0)

    for kill_at in (1, 6_000):
        process = relay()
        wait_for(lambda process=process, at=kill_at: position(process) >= at)
        process.kill()
        process.wait()
    process = relay()
    wait_for(lambda: position(process) == events[-1].seq)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0

    assert read_topic(kafka.admin, topic) == [(event.seq, encode(event)) for event in events]
    assert [seq for seq, _ in read_topic(kafka.admin, topics.stream_topic("parties"))] == [1, 2, 3]
    with psycopg.connect(ledger_database.owner_url) as connection:
        stored = dict(connection.execute("select topic, seq from stream.relay_position").fetchall())
    assert stored[topic] == events[-1].seq


def test_an_open_transaction_of_a_dead_relay_is_never_read(
    ledger_database, kafka, ledger, publisher
):
    events = ledger_events.history(ledger, 40)
    ledger_events.store_journal(ledger_database.owner_url, events[:20])
    first = publisher()
    first.open()
    assert first.publish() == 20
    # A relay that dies between send and commit: its records are in the log, its transaction open.
    dying = Producer(
        {
            **kafka.login("relay").client(),
            "transactional.id": f"tallystick-relay-{first.source.topic}",
        }
    )
    dying.init_transactions(10)
    dying.begin_transaction()
    for number in range(200):
        dying.produce(first.source.topic, value=b"never committed %d" % number, partition=0)
    dying.flush(10)
    ledger_events.store_journal(ledger_database.owner_url, events[20:])
    second = publisher()
    second.open()
    assert second.position == 20
    assert second.publish() == len(events) - 20
    with pytest.raises(Exception, match=r"(?i)fenced|epoch"):
        dying.commit_transaction(10)
    assert [value for _, value in read_topic(kafka.admin, first.source.topic)] == [
        encode(e) for e in events
    ]
    assert last_committed(kafka.login("relay"), first.source.topic).value() == encode(events[-1])


@pytest.mark.parametrize(
    ("change", "alarm"),
    [
        ("delete from ledger.journal where seq > 15", "journal_behind_kafka"),
        ("update ledger.journal set bytes = 'x' where seq = 20", "journal_differs_from_kafka"),
    ],
)
def test_a_journal_that_disagrees_with_kafka_stops_its_source(
    ledger_database, ledger, publisher, change, alarm
):
    ledger_events.store_journal(ledger_database.owner_url, ledger_events.history(ledger, 12))
    one = publisher()
    one.open()
    one.publish()
    one.close()
    with psycopg.connect(ledger_database.owner_url) as connection:
        connection.execute("alter table ledger.journal disable trigger user")
        connection.execute(change)
    with pytest.raises(RelayError) as caught:
        one.open()
    assert caught.value.code == alarm


@pytest.mark.parametrize("lost", ["seq = 7", "seq > 3", f"seq <= {BATCH_EVENTS + 1}"])
def test_what_the_journal_lacks_is_never_passed_over(
    ledger_database, kafka, ledger, publisher, lost
):
    """Also a page of which nothing is left: to find nothing is not to be at the end."""
    events = ledger_events.history(ledger, BATCH_EVENTS + 10 if "<=" in lost else 20)
    ledger_events.store_journal(ledger_database.owner_url, events)
    one = publisher()
    one.open()
    with psycopg.connect(ledger_database.owner_url) as connection:
        connection.execute("alter table ledger.journal disable trigger user")
        connection.execute("delete from ledger.journal where ledger = %s and " + lost, [ledger])
    with pytest.raises(RelayError) as caught:
        one.publish()
    assert caught.value.code == "journal_gap"
    assert read_topic(kafka.admin, one.source.topic) == []


def test_a_page_is_read_in_order_by_the_key_without_statistics(ledger_database, ledger):
    """A journal that was just filled, before anything counted its rows: no page sorts what follows it."""
    ledger_events.store_journal(ledger_database.owner_url, ledger_events.history(ledger, 3_000))
    with psycopg.connect(ledger_database.owner_url) as connection:
        plan = "\n".join(
            line for (line,) in connection.execute(
                "explain (analyze, timing off, summary off) " + sources._JOURNAL_PAGE, [ledger, 10, 20]
            )
        )  # fmt: skip
    read = [int(rows) for rows in re.findall(r"rows=(\d+)(?:\.00)? loops=1", plan)]
    assert max(read) == 10, plan


def test_a_stopped_source_does_not_stop_the_others(ledger_database, kafka, ledger, relay):
    bad, good = f"{ledger}bad", f"{ledger}good"
    for name in (bad, good):
        ledger_events.store_journal(ledger_database.owner_url, ledger_events.history(name, 5))
    topic = NewTopic(topics.journal_topic(bad), 1, 1, config={"retention.ms": "1000"})
    admin = AdminClient(kafka.admin.client())
    admin.create_topics([topic])[topic.topic].result(10)
    process = relay()

    def both_decided() -> dict | None:
        sources = process.readiness().get("sources", {})
        published = sources.get(topics.journal_topic(good), {}).get("seq") == 13
        return sources if published and sources[topic.topic]["alarm"] else None

    sources = wait_for(both_decided)
    assert sources[topic.topic]["alarm"] == "topic_settings_differ"
    assert process.readiness()["ready"] is False


def test_kafka_makes_no_topic_by_itself(kafka):
    client = AdminClient(kafka.admin.client())
    client.list_topics("never.created", timeout=5)
    assert "never.created" not in client.list_topics(timeout=5).topics


def test_a_cluster_that_stops_answering_is_an_error_of_kafka(monkeypatch):
    """The relay tries again after those; any other error would end it."""
    for module in (relay_module, topic_settings):
        monkeypatch.setattr(module, "KAFKA_WAIT_S", 0.1)
    nobody = Brokers("127.0.0.1:1", "PLAINTEXT")
    with pytest.raises(KafkaException):
        ensure_topic(nobody, Source("nowhere", "journal"), 1)
    with pytest.raises(KafkaException):
        last_committed(nobody, "nowhere")
    # it said where the log ends, and falls silent before it gives the records
    monkeypatch.setattr(
        relay_module,
        "Consumer",
        lambda settings: _Silent({**settings, "log_level": 0}),
    )
    with pytest.raises(KafkaException) as refusal:
        last_committed(nobody, "nowhere")
    assert refusal.value.args[0].code() == KafkaError._TIMED_OUT


class _Silent(Consumer):
    def get_watermark_offsets(self, *_args, **_more):
        return 0, 1
