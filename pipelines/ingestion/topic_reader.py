"""Reads topics by `seq`: no consumer group, no committed offsets, only committed records."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from ledger_service.contract import topics
from ledger_service.contract.brokers import Brokers, refused_login
from pipelines.ingestion.manifest import LandedSource

KAFKA_WAIT_S = 15.0
PAGE = 500
"""Records in hand at once: few enough that they stay in the processor's cache, which is half the time."""
_PARTITION_EOF = KafkaError._PARTITION_EOF  # noqa: SLF001 - its documented name

_COMPACTED = frozenset(topics.stream_topic(stream) for stream in topics.COMPACTED_STREAMS)
_STREAM_OF_TOPIC = {topics.stream_topic(stream): stream for stream in topics.STREAMS}


def source_of(topic: str) -> str | None:
    """The ledger or stream that a topic carries; None for a topic that is none of ours."""
    return topics.ledger_of(topic) or _STREAM_OF_TOPIC.get(topic)


class TopicReader:
    """One consumer over all topics; `follow` says where to begin, `read` gives what is new."""

    def __init__(self, brokers: Brokers) -> None:
        self._errors: list[KafkaError] = []
        """What the client met while it waited for an answer."""
        self._settings = {
            **brokers.reader(),
            "fetch.max.bytes": 64 * 1024 * 1024,
            "queued.max.messages.kbytes": 256 * 1024,
        }
        self._admin = AdminClient(brokers.client(error_cb=self._errors.append))
        self._consumer = Consumer(self._settings)
        self._following: dict[str, str] = {}
        """Topic to the id under which it is read."""
        self._at_end: set[str] = set()
        """Topics of which nothing is left to read for the moment."""

    def close(self) -> None:
        """Let go of the brokers."""
        self._consumer.close()

    def discover(self) -> dict[str, str]:
        """The ids of all topics of ours. Errors: `KafkaException` where no broker answers, or they
        refuse the login."""
        found = self._topics()
        names = [name for name in found if source_of(name) is not None]
        if not names:
            return {}
        # The client itself ends the wait: its error is a `KafkaException`, which a future's is not.
        described = self._admin.describe_topics(
            TopicCollection(names), request_timeout=KAFKA_WAIT_S
        )
        return {name: str(future.result().topic_id) for name, future in described.items()}

    def _topics(self) -> Collection[str]:
        self._errors.clear()
        try:
            return self._admin.list_topics(timeout=KAFKA_WAIT_S).topics
        except KafkaException:
            self._admin.poll(0)
            if refused := refused_login(self._errors):
                raise KafkaException(refused) from None
            raise

    def follow(self, sources: Sequence[LandedSource]) -> None:
        """Read exactly the topics of `sources`, new ones from behind their `seq`."""
        for topic in self._following.keys() - {source.topic for source in sources}:
            self.leave(topic)
        for source in sources:
            if self._following.get(source.topic) == source.topic_id:
                continue
            if source.topic in self._following:
                self.leave(source.topic)
            offset = source.next_offset or self.offset_behind(source.topic, source.seq)
            self._at_end.discard(source.topic)
            self._consumer.incremental_assign([TopicPartition(source.topic, 0, offset)])
            self._following[source.topic] = source.topic_id

    def follows(self, topic: str) -> bool:
        """Whether `topic` is being read."""
        return topic in self._following

    def leave(self, topic: str) -> None:
        """Stop reading a topic; the next `follow` begins where the manifest stands."""
        self._consumer.incremental_unassign([TopicPartition(topic, 0)])
        del self._following[topic]

    def leave_all(self) -> None:
        """Stop reading every topic."""
        self._consumer.unassign()
        self._following.clear()

    def read(self, limit: int, seconds: float) -> Iterator[dict[str, list[Message]]]:
        """Up to `limit` records by topic, a page at a time: all there are, if that is fewer.

        Reads every topic to where it ended when its first record came, for a busy one has no other
        end, and where nothing is new waits up to `seconds` for a record.
        Errors: `KafkaException`, also where the ends are not reached in KAFKA_WAIT_S.
        """
        begun = time.monotonic()
        count = 0
        ends: dict[str, int] = {}
        ended: set[str] = set()
        while count < limit:
            page = self._page(min(PAGE, limit - count))
            for topic, records in page.items():
                if topic not in ends:
                    place = TopicPartition(topic, 0)
                    # The end that the broker told with these records.
                    ends[topic] = self._consumer.get_watermark_offsets(place, cached=True)[1]
                if (records[-1].offset() or 0) + 1 >= ends[topic]:
                    ended.add(topic)
            if page:
                count += sum(map(len, page.values()))
                yield page
            waited = time.monotonic() - begun
            if self._following.keys() <= ended | self._at_end:
                if count or waited >= seconds:
                    break
            elif waited >= KAFKA_WAIT_S:
                if count:
                    break
                raise KafkaException(KafkaError(KafkaError.REQUEST_TIMED_OUT))

    def _page(self, limit: int) -> dict[str, list[Message]]:
        page: defaultdict[str, list[Message]] = defaultdict(list)
        for record in self._consumer.consume(limit, timeout=0.05):
            topic, error = record.topic() or "", record.error()
            if error is None:
                page[topic].append(record)
                self._at_end.discard(topic)
            elif error.code() == _PARTITION_EOF:
                self._at_end.add(topic)
            else:
                raise KafkaException(error)
        return page

    def holds_all(self, source: LandedSource) -> bool:
        """Whether the topic of `source` holds all that has landed, from its first record on."""
        found = self.discover().get(source.topic)
        if found is None:
            return False
        begins = source.topic in _COMPACTED or self._first_seq_behind(source.topic, 0) == 1
        return begins and self._first_seq_behind(source.topic, source.seq - 1) == source.seq

    def _first_seq_behind(self, topic: str, seq: int) -> int | None:
        """The first `seq` in the topic that is higher; None where there is none."""
        consumer = Consumer(self._settings)
        try:
            consumer.assign([TopicPartition(topic, 0, self.offset_behind(topic, seq))])
            while record := consumer.poll(KAFKA_WAIT_S):
                error = record.error()
                if error is not None and error.code() == _PARTITION_EOF:
                    return None
                if error is not None:
                    raise KafkaException(error)
                found = topics.seq_of(dict(record.headers() or ()))
                if found is not None and found > seq:
                    return found
            raise KafkaException(KafkaError(KafkaError.REQUEST_TIMED_OUT))
        finally:
            consumer.close()

    def offset_behind(self, topic: str, seq: int) -> int:
        """The offset from which on every record is behind `seq`, found by halving the log."""
        if seq == 0:
            return OFFSET_BEGINNING
        consumer = Consumer(self._settings)
        try:
            partition = TopicPartition(topic, 0)
            low, high = consumer.get_watermark_offsets(partition, timeout=KAFKA_WAIT_S)
            while low < high:
                middle = (low + high) // 2
                consumer.assign([TopicPartition(topic, 0, middle)])
                record = consumer.poll(KAFKA_WAIT_S)
                if record is None:
                    raise KafkaException(KafkaError(KafkaError.REQUEST_TIMED_OUT))
                found = None if record.error() else topics.seq_of(dict(record.headers() or ()))
                if found is not None and found <= seq:
                    low = (record.offset() or middle) + 1
                else:
                    high = middle
            return low
        finally:
            consumer.close()
