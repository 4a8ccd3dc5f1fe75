"""The topics as an AsyncAPI 3.0 document, made from the types: channels, messages, headers, promises.

It stands alone: the payloads are those of `schemas`, repeated under `components`, in the words that
AsyncAPI's own dialect of JSON Schema (draft 07) shares with draft 2020-12.
"""

from __future__ import annotations

from typing import Any, cast

from ledger_service.contract import schemas, topics
from ledger_service.contract.events import SCHEMA_VERSION, event_type
from ledger_service.contract.forms import MOMENT
from ledger_service.contract.schemas import JOURNAL_EVENTS, STREAM_EVENTS, EventType, Schema

_KAFKA = "0.5.0"
"""Version of AsyncAPI's Kafka bindings."""
_ORDER = """\
One partition, so that order is `seq`. Each event once, in transactions of the producer: read with \
`isolation.level=read_committed`. Keep your position as `ts_seq`; offsets have holes, and restart with a \
new topic."""
_KEPT = "Nothing is ever deleted: `seq` is gapless from 1, and a hole or a repetition is a defect."
_COMPACTED = """\
Compacted by key: the newest event of each key is kept, so that `seq` has holes where older ones were."""
_JOURNAL = """\
All that a ledger's journal holds, in order and byte for byte: a value is the canonical bytes that were \
hashed (RFC 6962 leaf). Money moves by `transaction.posted` alone."""
_STREAMS = {
    "parties": (
        "What others may know of a party, nothing personal; a later event of a party replaces an earlier one.",
        "The party's id.",
    ),
    "statements": ("Bank statements, line by line, without names.", "Token of the bank's account."),
    "alert_decisions": ("What compliance decided on alerts.", "The alert's id."),
}
"""By stream: what it carries, and what the key of a record is."""
_HEADERS: Schema = {
    "type": "object",
    "description": "CloudEvents 1.0 in binary mode, and the position; values are UTF-8.",
    "required": [
        "ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "ce_subject", "content-type",
        "ts_seq",
    ],
    "properties": {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": {
            "type": "string",
            "pattern": "^[a-z][a-z0-9_]{1,30}/[1-9][0-9]*$",
            "description": "The ledger or stream, and `seq`: unique for ever.",
        },
        "ce_type": {"type": "string", "description": "`type` of the event, and the version."},
        "ce_source": {"type": "string", "pattern": "^/ledgers/[a-z][a-z0-9_]{1,30}$"},
        "ce_time": {
            "type": "string", "format": "date-time", "pattern": MOMENT,
            "description": "`recorded_at` of the event.",
        },
        "ce_subject": {"type": "string", "description": "The record's key."},
        "content-type": {"type": "string", "const": "application/json"},
        "ts_seq": {
            "type": "string", "pattern": "^[1-9][0-9]*$",
            "description": "`seq` of the event: a reader's position.",
        },
    },
}  # fmt: skip


def document() -> Schema:
    """The whole document."""
    channels: Schema = {"journal": _journal_channel()}
    messages: Schema = {
        event_type(event): _message(event, "The ledger's name.") for event in JOURNAL_EVENTS
    }
    for stream, (said, key) in _STREAMS.items():
        carried = STREAM_EVENTS[stream]
        compacted = stream in topics.COMPACTED_STREAMS
        channels[stream] = {
            "address": topics.stream_topic(stream),
            **_channel(said, carried, compacted=compacted),
        }
        messages |= {event_type(event): _message(event, key) for event in carried}
    return {
        "asyncapi": "3.0.0",
        "id": f"urn:tallystick:contract:v{SCHEMA_VERSION}",
        "info": {
            "title": "Tallystick's events on Kafka",
            "version": str(SCHEMA_VERSION),
            "description": "What a ledger and its neighbours publish; see `events.schema.json`.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": {f"publish_{name}": _operation(name) for name in channels},
        "components": {
            "messages": messages,
            "schemas": {"headers": _HEADERS, **_payloads()},
        },
    }


def _journal_channel() -> Schema:
    return {
        "address": topics.journal_topic("{ledger}"),
        "parameters": {"ledger": {"description": "A ledger's name: `^[a-z][a-z0-9_]{1,30}$`."}},
        **_channel(_JOURNAL, JOURNAL_EVENTS, compacted=False),
    }


def _channel(said: str, carried: tuple[EventType, ...], *, compacted: bool) -> Schema:
    names = [event_type(event) for event in carried]
    return {
        "description": f"{said} {_ORDER} {_COMPACTED if compacted else _KEPT}",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {
            "kafka": {
                "partitions": 1,
                "topicConfiguration": {
                    "cleanup.policy": ["compact" if compacted else "delete"],
                    "retention.ms": -1,
                    "retention.bytes": -1,
                },
                "bindingVersion": _KAFKA,
            }
        },
    }


def _message(event: EventType, key: str) -> Schema:
    name = event_type(event)
    return {
        "name": f"tallystick.{name}.v{SCHEMA_VERSION}",
        "title": event.__name__,
        "contentType": "application/json",
        "headers": {
            "allOf": [
                {"$ref": "#/components/schemas/headers"},
                {
                    "properties": {
                        "ce_type": {
                            "type": "string",
                            "const": f"tallystick.{name}.v{SCHEMA_VERSION}",
                        }
                    }
                },
            ]
        },
        "payload": {"$ref": f"#/components/schemas/{name}"},
        "bindings": {
            "kafka": {"key": {"type": "string", "description": key}, "bindingVersion": _KAFKA}
        },
    }


def _operation(channel: str) -> Schema:
    """`send`: an AsyncAPI document speaks of the one who publishes."""
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": f"Every committed event of {channel} is published, soon, by the relay.",
    }


def _payloads() -> Schema:
    definitions = schemas.events_schema()["$defs"]
    return {name: _moved(schema) for name, schema in definitions.items()}


def _moved(node: Any) -> Any:
    """A node whose references lead to `components`."""
    if isinstance(node, list):
        return [_moved(one) for one in cast("list[Any]", node)]
    if not isinstance(node, dict):
        return node
    return {
        name: value.replace("#/$defs/", "#/components/schemas/")
        if name == "$ref"
        else _moved(value)
        for name, value in cast("Schema", node).items()
    }
