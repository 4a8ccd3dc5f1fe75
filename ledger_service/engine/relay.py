"""From the journal to Kafka, each event once, in order, byte for byte (P7).

One publisher per topic, one transactional producer per publisher. Where a publisher goes on from is
never remembered but read back: `init_transactions` fences and aborts whatever an earlier process
left open, and then the last *committed* record of the partition says what Kafka holds. That record
is compared with the journal: a journal that lacks it, or holds other bytes at its `seq`, has been
restored or rewritten, and the publisher stops with a named alarm instead of publishing a second
history behind the first.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Literal, NamedTuple

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage]
    NewTopic,  # pyright: ignore[reportPrivateImportUsage]
    ResourceType,  # pyright: ignore[reportPrivateImportUsage]
)

from ledger_service.contract import topics
from ledger_service.contract.events import timestamp
from ledger_service.engine import failpoints

BATCH_EVENTS = 5_000
"""Events of one Kafka transaction: large enough that its commit (milliseconds) costs little."""
TRANSACTION_TIMEOUT_MS = 60_000
"""The broker aborts what a dead relay left open after this long, if no successor did before."""
FIRST_WINDOW = 16
WINDOW_GROWTH = 8
KAFKA_WAIT_S = 30.0
_PARTITION_EOF = KafkaError._PARTITION_EOF  # noqa: SLF001 - documented by the client under these names
_TIMED_OUT = KafkaError._TIMED_OUT  # noqa: SLF001


class RelayError(Exception):
    """A source can't be published any further until a person has looked. `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class StoredEvent(NamedTuple):
    """An event as the database holds it; `content` are the canonical bytes.

    `subject` is whose history it is: the party or statement of a stream's event, else the ledger.
    """

    seq: int
    event_type: str
    subject: str
    recorded_at: dt.datetime
    content: bytes


@dataclasses.dataclass(frozen=True)
class Source:
    """A journal or a stream, and where it goes."""

    name: str
    kind: Literal["journal", "stream"]

    @property
    def topic(self) -> str:
        """The topic that carries this source."""
        return (
            topics.journal_topic(self.name)
            if self.kind == "journal"
            else topics.stream_topic(self.name)
        )

    @property
    def compacted(self) -> bool:
        """Whether Kafka may drop earlier versions of a subject."""
        return self.kind == "stream" and self.name in topics.COMPACTED_STREAMS


_JOURNAL_PAGE = """
    select seq, event_type, ledger, recorded_at, bytes from ledger.journal
    where ledger = %s and seq > %s order by seq limit %s
"""
_STREAM_PAGE = """
    select seq, event_type, subject, recorded_at, bytes from stream.event
    where stream = %s and seq > %s order by seq limit %s
"""
_HEADS = """
    select 'journal', ledger, seq from ledger.head
    union all
    select 'stream', stream, seq from stream.head
"""


def read_heads(connection: psycopg.Connection) -> dict[Source, int]:
    """The newest committed `seq` of every source."""
    return {Source(name, kind): seq for kind, name, seq in connection.execute(_HEADS)}


def read_events(
    connection: psycopg.Connection, source: Source, after: int, limit: int = BATCH_EVENTS
) -> list[StoredEvent]:
    """Up to `limit` events behind `after`, in order."""
    page = _JOURNAL_PAGE if source.kind == "journal" else _STREAM_PAGE
    rows = connection.execute(page, (source.name, after, limit), binary=True)
    return [StoredEvent(*row) for row in rows]


def store_positions(connection: psycopg.Connection, positions: dict[Source, int]) -> None:
    """Say how far the relay is, for progress pages: nothing here relies on it."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into stream.relay_position (topic, seq) values (%s, %s) "
            "on conflict (topic) do update set seq = excluded.seq, updated_at = now()",
            [(source.topic, seq) for source, seq in positions.items()],
        )


def topic_settings(source: Source, replication: int) -> dict[str, str]:
    """What a topic must be: kept for ever, and on a cluster never in the hands of one broker."""
    return {
        "cleanup.policy": "compact" if source.compacted else "delete",
        "retention.ms": "-1",
        "retention.bytes": "-1",
        "min.insync.replicas": str(max(1, replication - 1)),
    }


def ensure_topic(admin: AdminClient, source: Source, replication: int) -> None:
    """Create the topic of `source`, or check one that is there.

    Errors: `RelayError` `topic_settings_differ` for a topic that would lose events or their order;
    `KafkaException` where the cluster can't be asked.
    """
    wanted = topic_settings(source, replication)
    creation = admin.create_topics(
        [NewTopic(source.topic, num_partitions=1, replication_factor=replication, config=wanted)],
        operation_timeout=KAFKA_WAIT_S,
        # The client itself ends the wait: its error is a `KafkaException`, which a future's is not.
        request_timeout=KAFKA_WAIT_S,
    )
    try:
        creation[source.topic].result()
    except KafkaException as failure:
        if failure.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
    else:
        return
    partitions = (
        admin.list_topics(source.topic, timeout=KAFKA_WAIT_S).topics[source.topic].partitions
    )
    resource = ConfigResource(ResourceType.TOPIC, source.topic)
    found = admin.describe_configs([resource], request_timeout=KAFKA_WAIT_S)[resource].result()
    # The replication of an existing topic is the operator's business; its contents are ours.
    differing = [
        f"{name} is {found[name].value}, must be {wanted[name]}"
        for name in ("cleanup.policy", "retention.ms", "retention.bytes")
        if found[name].value != wanted[name]
    ]
    if len(partitions) > 1:
        differing.append(f"it has {len(partitions)} partitions, must have 1")
    if differing:
        raise RelayError(
            "topic_settings_differ",
            f"Topic {source.topic} would lose events or their order: {'; '.join(differing)}. "
            "Correct its settings and start the relay again.",
        )


def record_seq(record: Message) -> int:
    """The `seq` of a record, from its headers. Errors: `RelayError` `foreign_record`."""
    seq = topics.seq_of(dict(record.headers() or ()))
    if seq is None:
        raise RelayError(
            "foreign_record",
            f"Topic {record.topic()} holds a record at offset {record.offset()} that the relay did "
            "not write. Only the relay may write there: set the topic's ACL.",
        )
    return seq


def last_committed(bootstrap: str, topic: str) -> Message | None:
    """The last record of the partition that a read_committed reader sees; None for an empty topic.

    The end of the log may be control records and aborted batches, so the search begins close to the
    end and widens. Errors: `KafkaException`.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            # The client demands a group; assign() uses none.
            "group.id": "tallystick-relay-read-back",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=KAFKA_WAIT_S)
        width, start = FIRST_WINDOW, high
        while start > low:
            start = max(low, high - width)
            found = _last_from(consumer, topic, start)
            if found is not None:
                return found
            width *= WINDOW_GROWTH
        return None
    finally:
        consumer.close()


def _last_from(consumer: Consumer, topic: str, start: int) -> Message | None:
    """The last committed record at or behind offset `start`."""
    consumer.assign([TopicPartition(topic, 0, start)])
    last: Message | None = None
    while True:
        # One at a time: consume() would wait for a full page, long past the end of the log.
        record = consumer.poll(KAFKA_WAIT_S)
        if record is None:
            raise KafkaException(KafkaError(_TIMED_OUT, f"no answer reading back {topic}"))
        error = record.error()
        if error is None:
            last = record
        elif error.code() == _PARTITION_EOF:
            return last
        else:
            raise KafkaException(error)


class Publisher:
    """Publishes one source. Open it, then call `publish` as long as it gives more than zero.

    After any exception the publisher must be closed and opened anew: opening finds out what the
    broken call left in Kafka.
    """

    def __init__(
        self,
        source: Source,
        *,
        database_url: str,
        bootstrap: str,
        replication: int,
        first: int = 1,
        last: int | None = None,
    ) -> None:
        """`first` and `last`: of which events; `last` None: all that come, for ever."""
        self.source = source
        self.position = 0
        """`seq` of the last event that is committed in Kafka."""
        self._first = first
        self._last = last
        self._database_url = database_url
        self._bootstrap = bootstrap
        self._replication = replication
        self._connection: psycopg.Connection | None = None
        self._producer: Producer | None = None

    def open(self) -> None:
        """Fence earlier publishers of this source and find the place to go on from.

        Errors: `RelayError`; `KafkaException` and `psycopg.Error` when a server can't be reached.
        """
        self._connection = psycopg.connect(self._database_url, autocommit=True)
        ensure_topic(
            AdminClient({"bootstrap.servers": self._bootstrap}), self.source, self._replication
        )
        producer = Producer(
            {
                "bootstrap.servers": self._bootstrap,
                "transactional.id": f"tallystick-relay-{self.source.topic}",
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "acks": "all",
                "compression.type": "lz4",
                "linger.ms": 2,
                "batch.size": 512 * 1024,
            }
        )
        producer.init_transactions(KAFKA_WAIT_S)
        self._producer = producer
        self.position = self._position_in_kafka(self._connection)

    def publish(self) -> int:
        """Publish the next batch in one transaction; gives the number of its events, or 0.

        Errors: `RelayError` `journal_gap`; `KafkaException`, `BufferError` and `psycopg.Error`.
        """
        if self._connection is None or self._producer is None:
            raise RuntimeError("open the publisher first")
        left = BATCH_EVENTS if self._last is None else self._last - self.position
        events = read_events(self._connection, self.source, self.position, min(left, BATCH_EVENTS))
        if not events:
            return 0
        if events[-1].seq - self.position != len(events):
            raise RelayError(
                "journal_gap",
                f"{self.source.name} lacks events between seq {self.position} and "
                f"{events[-1].seq}. Nothing may be deleted there: run tally verify.",
            )
        self._send(self._producer, events)
        self.position = events[-1].seq
        return len(events)

    def close(self) -> None:
        """Let go of both servers; what was not committed is aborted by the next `open`."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._producer = None

    def _send(self, producer: Producer, events: Sequence[StoredEvent]) -> None:
        topic, name = self.source.topic, self.source.name
        failpoints.reach("relay.before_send")
        producer.begin_transaction()
        for event in events:
            headers: list[tuple[str, str | bytes | None]] = [
                *topics.headers(
                    source=name,
                    seq=event.seq,
                    event_type=event.event_type,
                    time=timestamp(event.recorded_at),
                    subject=event.subject,
                )
            ]
            producer.produce(
                topic,
                value=event.content,
                key=event.subject,  # what compaction keeps the newest of
                partition=0,
                headers=headers,
            )
        producer.poll(0)
        failpoints.reach("relay.before_commit")
        producer.commit_transaction(KAFKA_WAIT_S)
        failpoints.reach("relay.after_commit")

    def _position_in_kafka(self, connection: psycopg.Connection) -> int:
        last = last_committed(self._bootstrap, self.source.topic)
        if last is None:
            return self._first - 1
        seq = record_seq(last)
        stored = read_events(connection, self.source, seq - 1, 1)
        if not stored or stored[0].seq != seq:
            raise RelayError(
                "journal_behind_kafka",
                f"Kafka holds {self.source.name} up to seq {seq}, the journal does not: it was "
                "restored from an older backup. Bring it back to that seq before going on.",
            )
        if stored[0].content != last.value():
            raise RelayError(
                "journal_differs_from_kafka",
                f"Kafka and the journal hold different bytes at seq {seq} of {self.source.name}: "
                "one of them was rewritten. Run tally verify.",
            )
        return seq
