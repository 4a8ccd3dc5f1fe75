"""A range of a journal or stream once more, in a topic of its own: same bytes, keys and headers.

For a reader that wants to begin anew beside the others, or only one quarter. A topic of ours that is
lost needs no replay: the relay finds it empty and publishes everything again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import chain, zip_longest

import psycopg
from confluent_kafka import KafkaException, Message

from ledger_service.contract import topics
from ledger_service.contract.brokers import Brokers, refusal
from ledger_service.engine.relay import Publisher, record_seq
from ledger_service.engine.sources import (
    BATCH_EVENTS,
    RelayError,
    Source,
    StoredEvent,
    read_events,
    read_heads,
)
from ledger_service.engine.verification.kafka import pages


@dataclasses.dataclass(frozen=True)
class Copy(Source):
    """A source that goes elsewhere."""

    into: str

    @property
    def topic(self) -> str:
        """The topic that takes the copy."""
        return self.into

    @property
    def compacted(self) -> bool:
        """Never: all of a range is asked for."""
        return False

    @property
    def transactional_id(self) -> str:
        """Never one of the relay's."""
        return topics.REPLAY_TRANSACTIONS + self.into


def replay(
    source: Source,
    into: str,
    *,
    first: int = 1,
    last: int | None = None,
    database_url: str,
    brokers: Brokers,
    replication: int,
) -> int:
    """Publish events `first` to `last` (None: the newest one) of `source` into the topic `into`, and
    read them back; gives how many there are. Killed and called again, it goes on where it was.

    Errors: `RelayError` `topic_reserved`, `unknown_source`, `no_such_range`, `topic_holds_others`,
    `replay_differs`, those of `Publisher`, and those of `refusal` that Kafka gives; `psycopg.Error`.
    """
    if into.startswith(topics.RESERVED):
        raise RelayError(
            "topic_reserved", f"Topics named {topics.RESERVED}* are the relay's: name another."
        )
    with psycopg.connect(database_url, autocommit=True) as connection:
        head = read_heads(connection).get(source, 0)
        if not head:
            raise RelayError(
                "unknown_source", f"There is no {source.kind} {source.name} with events."
            )
        last = head if last is None else last
        if not 1 <= first <= last <= head:
            raise RelayError(
                "no_such_range", f"{source.name} holds 1 to {head}, not {first} to {last}."
            )
        copy = Copy(source.name, source.kind, into)
        publisher = Publisher(
            copy,
            database_url=database_url,
            brokers=brokers,
            replication=replication,
            first=first,
            last=last,
        )
        try:
            publisher.open()
            if not first - 1 <= publisher.position <= last:
                raise RelayError(
                    "topic_holds_others",
                    f"{into} ends at seq {publisher.position}, not in {first} to {last}: name another.",
                )
            while publisher.publish():
                pass
            publisher.close()
            publisher.open()  # which waits until readers see what was committed last
            _compare(brokers, into, _events(connection, copy, first, last))
        except KafkaException as failure:
            raise RelayError(*refusal(failure)) from failure
        finally:
            publisher.close()
    return last - first + 1


def _events(
    connection: psycopg.Connection, source: Source, first: int, last: int
) -> Iterator[StoredEvent]:
    after = first - 1
    while after < last:
        yield from read_events(connection, source, after, min(last, after + BATCH_EVENTS))
        after += BATCH_EVENTS


def _compare(brokers: Brokers, topic: str, events: Iterator[StoredEvent]) -> None:
    """Errors: `RelayError` `replay_differs`."""
    records: Iterator[Message] = chain.from_iterable(pages(brokers, topic))
    for record, event in zip_longest(records, events):
        held = None if record is None else (record_seq(record), record.value())
        due = None if event is None else (event.seq, event.content)
        if held != due:
            at = (due or held or (0, b""))[0]
            raise RelayError(
                "replay_differs",
                f"{topic} holds something else than the journal at seq {at}: delete it, or name another.",
            )
