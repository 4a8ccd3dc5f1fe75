"""Is what Kafka holds exactly what the journal holds (P7)? Read both ends, compare every byte."""

from __future__ import annotations

from collections.abc import Iterator

from confluent_kafka import Consumer, TopicPartition

from ledger_service.contract import topics
from ledger_service.contract.brokers import Brokers
from ledger_service.stack import settings
from ledger_service.stack.demo.visitor import Api
from ledger_service.stack.errors import StackError
from ledger_service.stack.home import Home

_PAGE = 10_000


def records(brokers: Brokers, topic: str, count: int) -> Iterator[bytes]:
    """The first `count` committed records of a topic with one partition, in order.

    Errors: `topic_too_short` where no further record comes for ten seconds.
    """
    consumer = Consumer({**brokers.reader(), "enable.partition.eof": False})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        given = 0
        while given < count:
            batch = consumer.consume(min(_PAGE, count - given), timeout=10)
            if not batch:
                raise StackError("topic_too_short", f"{topic} holds {given} of {count} events.")
            for message in batch:
                if message.error():
                    raise StackError("topic_unreadable", f"{topic}: {message.error()}")
                given += 1
                yield message.value() or b""
    finally:
        consumer.close()


def journal(api: Api, ledger: str, count: int) -> Iterator[bytes]:
    """The first `count` events of a ledger's journal, canonical bytes, in order."""
    after = 0
    while after < count:
        page = list(
            api.lines(
                f"/v1/ledgers/{ledger}/events", after_seq=after, limit=min(_PAGE, count - after)
            )
        )
        if not page:
            raise StackError("journal_too_short", f"{ledger} gave {after} of {count} events.")
        yield from page
        after += len(page)


def first_difference(home: Home, api: Api, ledger: str, count: int) -> int | None:
    """The first `seq` at which topic and journal differ; None where `count` events are equal.

    Errors: `topic_too_short`, `journal_too_short`, `topic_unreadable`.
    """
    both = zip(
        records(settings.brokers(home, "verifier"), topics.journal_topic(ledger), count),
        journal(api, ledger, count),
        strict=True,
    )
    return next((seq for seq, (record, event) in enumerate(both, 1) if record != event), None)
