"""From the journal to Kafka, each event once, in order, byte for byte (P7).

One publisher per topic, one transactional producer per publisher. Where a publisher goes on from is
never remembered but read back: `init_transactions` fences and aborts whatever an earlier process
left open, and then the last *committed* record of the partition says what Kafka holds. That record
is compared with the journal: a journal that lacks it, or holds other bytes at its `seq`, has been
restored or rewritten, and the publisher stops with a named alarm instead of publishing a second
history behind the first.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from ledger_service.contract import failpoints, topics
from ledger_service.contract.brokers import Brokers
from ledger_service.contract.events import timestamp
from ledger_service.engine.sources import (
    BATCH_EVENTS,
    RelayError,
    Source,
    StoredEvent,
    read_events,
    read_head,
)
from ledger_service.engine.topic_settings import KAFKA_WAIT_S, ensure_topic

TRANSACTION_TIMEOUT_MS = 60_000
"""The broker aborts what a dead relay left open after this long, if no successor did before."""
FIRST_WINDOW = 16
WINDOW_GROWTH = 8
_PARTITION_EOF = KafkaError._PARTITION_EOF  # noqa: SLF001 - documented by the client under these names
_TIMED_OUT = KafkaError._TIMED_OUT  # noqa: SLF001


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


def last_committed(brokers: Brokers, topic: str) -> Message | None:
    """The last record of the partition that a read_committed reader sees; None for an empty topic.

    The end of the log may be control records and aborted batches, so the search begins close to the
    end and widens. Errors: `KafkaException`.
    """
    consumer = Consumer(brokers.reader())
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
        brokers: Brokers,
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
        self._brokers = brokers
        self._replication = replication
        self._undelivered: list[KafkaError] = []
        self._connection: psycopg.Connection | None = None
        self._producer: Producer | None = None

    def open(self) -> None:
        """Fence earlier publishers of this source and find the place to go on from.

        Errors: `RelayError`; `KafkaException` and `psycopg.Error` when a server can't be reached.
        """
        self._connection = psycopg.connect(self._database_url, autocommit=True)
        ensure_topic(self._brokers, self.source, self._replication)
        producer = Producer(
            {
                **self._brokers.client(),
                "transactional.id": self.source.transactional_id,
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "acks": "all",
                "compression.type": "lz4",
                "linger.ms": 2,
                "batch.size": 512 * 1024,
                "delivery.report.only.error": True,
                "on_delivery": self._note_undelivered,
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
        head = read_head(self._connection, self.source) if self._last is None else self._last
        until = min(head, self.position + BATCH_EVENTS)
        if until <= self.position:
            return 0
        events = read_events(self._connection, self.source, self.position, until)
        if len(events) != until - self.position:
            raise RelayError(
                "journal_gap",
                f"{self.source.name} lacks events between seq {self.position} and "
                f"{until}. Nothing may be deleted there: run tally verify.",
            )
        self._send(self._producer, events)
        self.position = until
        return len(events)

    def close(self) -> None:
        """Let go of both servers; what was not committed is aborted by the next `open`."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._producer = None

    def _send(self, producer: Producer, events: Sequence[StoredEvent]) -> None:
        topic, name = self.source.topic, self.source.name
        self._undelivered.clear()
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
        try:
            producer.commit_transaction(KAFKA_WAIT_S)
        except KafkaException as failure:
            # it only says that something was not delivered; why was said before
            raise next(map(KafkaException, self._undelivered), failure) from None
        failpoints.reach("relay.after_commit")

    def _note_undelivered(self, error: KafkaError | None, record: Message) -> None:  # noqa: ARG002 - the client's signature
        if error is not None:
            self._undelivered.append(error)

    def _position_in_kafka(self, connection: psycopg.Connection) -> int:
        last = last_committed(self._brokers, self.source.topic)
        if last is None:
            return self._first - 1
        seq = record_seq(last)
        stored = read_events(connection, self.source, seq - 1, seq)
        if not stored:
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
