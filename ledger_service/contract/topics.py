"""Topics, record headers and their promises.

One topic per journal and per stream, each with one partition, so that order is `seq`. The value is
the canonical bytes of the event; headers are CloudEvents 1.0 in binary mode, and `ts_seq`, by which
readers keep their position (offsets have holes, and restart with a new topic).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

RESERVED = "tallystick."
"""Where topics begin that only the relay may write to."""

RELAY_TRANSACTIONS, REPLAY_TRANSACTIONS = "tallystick-relay-", "tallystick-replay-"
"""Where transactional ids begin: whoever may use one can fence the others who write under it."""

STREAMS = ("parties", "statements", "alert_decisions")
"""The streams beside the journals; each is gapless in `seq` when it is published."""

COMPACTED_STREAMS = frozenset({"parties"})
"""Keyed by the subject; a reader finds holes in `seq` where older versions were removed."""


def journal_topic(ledger: str) -> str:
    """Topic of a ledger's journal."""
    return f"tallystick.{ledger}.journal.v1"


def stream_topic(stream: str) -> str:
    """Topic of one of STREAMS."""
    return f"tallystick.{stream}.v1"


def ledger_of(topic: str) -> str | None:
    """The ledger whose journal `topic` carries; None for any other topic."""
    parts = topic.split(".")
    is_journal = len(parts) == 4 and parts[0] == "tallystick" and parts[2:] == ["journal", "v1"]
    return parts[1] if is_journal else None


def headers(
    *, source: str, seq: int, event_type: str, time: str, subject: str
) -> list[tuple[str, bytes]]:
    """Headers of one record. `source` is the ledger's or stream's name."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", f"{source}/{seq}".encode()),
        ("ce_type", f"tallystick.{event_type}.v1".encode()),
        ("ce_source", f"/ledgers/{source}".encode()),
        ("ce_time", time.encode()),
        ("ce_subject", subject.encode()),
        ("content-type", b"application/json"),
        ("ts_seq", str(seq).encode()),
    ]


def seq_of(headers: Mapping[str, object]) -> int | None:
    """The `seq` that a record's headers state; None where they state none, or one beyond 64 bits."""
    return _seq(headers.get("ts_seq"))


def stated(
    headers: Sequence[tuple[str, str | bytes | None]],
) -> tuple[int | None, bytes, bytes]:
    """`seq_of` a record's headers, their type and their time; empty where they state none.

    They stand where `headers` puts them, and a reader of millions of records looks there first: a
    dictionary of each would take as long as all the rest.
    """
    if len(headers) == 8:
        (type_name, kind), (time_name, time), (seq_name, seq) = headers[2], headers[4], headers[7]
        if (type_name, time_name, seq_name) == ("ce_type", "ce_time", "ts_seq"):
            return _seq(seq), _bytes(kind), _bytes(time)
    named = dict(headers)
    return seq_of(named), _bytes(named.get("ce_type")), _bytes(named.get("ce_time"))


def _seq(text: object) -> int | None:
    return int(text) if isinstance(text, bytes) and text.isdigit() and len(text) < 19 else None


def _bytes(header: object) -> bytes:
    return header if isinstance(header, bytes) else b""
