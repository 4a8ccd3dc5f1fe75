"""What is published: journals and streams, as the database holds them."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Literal, NamedTuple

import psycopg

from ledger_service.contract import topics

BATCH_EVENTS = 5_000
"""Events of one page, which is one Kafka transaction: large enough that its commit (milliseconds) costs
little."""


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

    @property
    def transactional_id(self) -> str:
        """Under which one publisher of it fences another."""
        return topics.RELAY_TRANSACTIONS + self.topic


# Both ends are named: with a limit alone, a planner without statistics (a journal that was just filled)
# sorts all that follows for each page.
_JOURNAL_PAGE = """
    select seq, event_type, ledger, recorded_at, bytes from ledger.journal
    where ledger = %s and seq > %s and seq <= %s order by seq
"""
_STREAM_PAGE = """
    select seq, event_type, subject, recorded_at, bytes from stream.event
    where stream = %s and seq > %s and seq <= %s order by seq
"""
_JOURNAL_HEAD = "select seq from ledger.head where ledger = %s"
_STREAM_HEAD = "select seq from stream.head where stream = %s"
_HEADS = """
    select 'journal', ledger, seq from ledger.head
    union all
    select 'stream', stream, seq from stream.head
"""


def read_heads(connection: psycopg.Connection) -> dict[Source, int]:
    """The newest committed `seq` of every source."""
    return {Source(name, kind): seq for kind, name, seq in connection.execute(_HEADS)}


def read_head(connection: psycopg.Connection, source: Source) -> int:
    """The newest committed `seq` of one source; 0 before its first event."""
    question = _JOURNAL_HEAD if source.kind == "journal" else _STREAM_HEAD
    found = connection.execute(question, (source.name,)).fetchone()
    return found[0] if found else 0


def read_events(
    connection: psycopg.Connection, source: Source, after: int, until: int
) -> list[StoredEvent]:
    """The events behind `after` up to `until`, in order, without any that is missing."""
    page = _JOURNAL_PAGE if source.kind == "journal" else _STREAM_PAGE
    rows = connection.execute(page, (source.name, after, until), binary=True)
    return list(map(StoredEvent._make, rows.fetchall()))


def store_positions(connection: psycopg.Connection, positions: dict[Source, int]) -> None:
    """Say how far the relay is, for progress pages: nothing here relies on it."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into stream.relay_position (topic, seq) values (%s, %s) "
            "on conflict (topic) do update set seq = excluded.seq, updated_at = now()",
            [(source.topic, seq) for source, seq in positions.items()],
        )
