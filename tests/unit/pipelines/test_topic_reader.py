"""Reading ends where the topics end, not where a page happens to be empty."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from ledger_service.contract import topics
from ledger_service.contract.brokers import Brokers
from pipelines.ingestion import topic_reader
from pipelines.ingestion.topic_reader import TopicReader


@dataclasses.dataclass
class Record:
    name: str
    end: bool = False
    code: int = KafkaError._PARTITION_EOF
    at: int = 0

    def offset(self) -> int:
        return self.at

    def topic(self) -> str:
        return self.name

    def error(self) -> KafkaError | None:
        return KafkaError(self.code) if self.end else None


class Pages:
    """A consumer that gives the pages it was told to, then nothing."""

    def __init__(self, *pages: list[Record]) -> None:
        self._pages = list(pages)
        self.high = {"a": 100, "b": 100}

    def get_watermark_offsets(self, place: TopicPartition, *, cached: bool) -> tuple[int, int]:
        assert cached, "it must not ask the broker for each page"
        return 0, self.high[place.topic]

    def consume(self, _count: int, timeout: float) -> list[Record]:
        assert timeout < 1
        return self._pages.pop(0) if self._pages else []


def reader(*pages: list[Record]) -> TopicReader:
    one = TopicReader(Brokers("nowhere:1", "PLAINTEXT"))
    one._consumer = Pages(*pages)
    one._following = {"a": "1", "b": "2"}
    return one


def test_a_topic_that_answers_late_is_waited_for():
    pages = [[Record("a"), Record("a", end=True)], [], [], [Record("b")], [Record("b", end=True)]]
    found = list(reader(*pages).read(limit=100, seconds=0))
    assert [(topic, len(records)) for page in found for topic, records in page.items()] == [
        ("a", 1),
        ("b", 1),
    ]


def test_what_goes_on_coming_behind_the_end_is_not_waited_for():
    """Under load no page ends where the topic does: the end that it had at first is end enough."""
    one = reader([Record("b"), Record("b", end=True)], *[[Record("a", at=n)] for n in range(99)])
    one._consumer.high["a"] = 3
    assert sum(len(records) for page in one.read(100, 0) for records in page.values()) == 4
    one._consumer.high["a"] = 5
    assert sum(len(records) for page in one.read(100, 0) for records in page.values()) == 2


def test_ends_that_never_come_are_an_error_and_not_an_empty_landing(monkeypatch):
    monkeypatch.setattr(topic_reader, "KAFKA_WAIT_S", 0.01)
    with pytest.raises(KafkaException):
        list(reader([Record("a", end=True)]).read(limit=100, seconds=0))


def test_a_broken_partition_is_an_error():
    broken = Record("a", end=True, code=KafkaError.UNKNOWN_TOPIC_OR_PART)
    with pytest.raises(KafkaException):
        list(reader([broken]).read(limit=100, seconds=0))


def test_a_cluster_that_stops_answering_is_an_error_of_kafka(monkeypatch):
    """The loop goes on after those; any other error would end a streaming run."""
    monkeypatch.setattr(topic_reader, "KAFKA_WAIT_S", 0.1)
    one = TopicReader(Brokers("127.0.0.1:1", "PLAINTEXT"))
    with pytest.raises(KafkaException):
        one.discover()
    known = SimpleNamespace(topics={topics.stream_topic("parties"): None})
    monkeypatch.setattr(AdminClient, "list_topics", lambda *_args, **_more: known)
    with pytest.raises(KafkaException) as refusal:
        one.discover()
    assert refusal.value.args[0].code() == KafkaError._TIMED_OUT
