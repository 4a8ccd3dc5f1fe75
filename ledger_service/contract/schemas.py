"""The events as one JSON Schema (draft 2020-12), made from the types.

Every event type is one of `$defs`, by its name on the wire (`transaction.posted`), its fields in the
order of the canonical bytes. What is written there holds for everything a journal or stream of
version 1 can hold; fields may be added within a version, so that none forbids what it doesn't name.
Descriptions are the docstrings. `tally contract` writes it; `compatibility` compares two of them.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from typing import Any, cast, get_args

import msgspec

from ledger_service.contract import events
from ledger_service.contract.events import SCHEMA_VERSION, JournalEvent, event_type

Schema = dict[str, Any]
"""A JSON Schema, or a part of one."""

EventType = type[msgspec.Struct]
JOURNAL_EVENTS: tuple[EventType, ...] = get_args(JournalEvent)
STREAM_EVENTS: dict[str, tuple[EventType, ...]] = {
    "parties": (events.PartyRegistered,),
    "statements": (
        events.StatementAccountRegistered,
        events.StatementReceived,
        events.StatementLine,
    ),
    "alert_decisions": (events.AlertDecided,),
}
"""What each of the streams beside the journals carries."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DESCRIPTION = """\
Every event of a ledger's journal and of the streams beside it, as Kafka carries it. Choose by `type` \
(or the header `ce_type`) among `$defs`. A field that is not `required` and is left out has its \
`default`. Readers of a version pass over fields they don't know: new ones may come within it, never \
`required`; event types may come, too, and a list of words where `x-may-grow` says so. Amounts of money \
are text, never numbers."""


def events_schema() -> Schema:
    """The whole, every event one of `oneOf`."""
    stream_events = [event for several in STREAM_EVENTS.values() for event in several]
    definitions = _definitions(*JOURNAL_EVENTS, *stream_events)
    for stream, several in STREAM_EVENTS.items():
        for event in several:
            properties = definitions[event_type(event)]["properties"]
            properties["stream"] = {"type": "string", "const": stream}
    names = [event_type(event) for event in (*JOURNAL_EVENTS, *stream_events)]
    return {
        "$schema": DIALECT,
        "$id": f"urn:tallystick:contract:v{SCHEMA_VERSION}:events",
        "title": f"Tallystick's events, version {SCHEMA_VERSION}",
        "description": _DESCRIPTION,
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in names],
        "$defs": dict(sorted(definitions.items())),
    }


def _definitions(*found: EventType) -> dict[str, Schema]:
    """What msgspec makes of the types, and what it doesn't know of the contract."""
    _, components = msgspec.json.schema_components(found, ref_template="#/$defs/{name}")
    names = {event.__name__: event_type(event) for event in found}
    return {
        names.get(name, name): _completed(getattr(events, name), _plain(schema))
        for name, schema in components.items()
    }


def _completed(struct: EventType, schema: Schema) -> Schema:
    properties: dict[str, Schema] = schema["properties"]
    schema["description"] = inspect.getdoc(struct)
    for name, said in _documented(struct).items():
        # beside a reference or a choice, or in the place of what its form says
        properties[name]["description"] = said
    if "type" in properties:
        properties["type"] = {"type": "string", "const": event_type(struct)}
        properties["v"] = {
            "type": "integer",
            "const": SCHEMA_VERSION,
            "description": "Version of the contract; another one needs another reader.",
        }
        schema["required"].insert(1, "v")  # written whatever its default is
    return schema


def _plain(node: Any) -> Any:
    """A node with the type of its words named, and lists that are never empty."""
    if isinstance(node, list):
        return [_plain(one) for one in cast("list[Any]", node)]
    if not isinstance(node, dict):
        return node
    plain = {name: _plain(value) for name, value in cast("Schema", node).items()}
    if isinstance(plain.get("enum"), list):
        plain = {"type": "string", **plain}
    if plain.get("type") == "array":
        plain["minItems"] = 1
    return plain


def _documented(struct: EventType) -> dict[str, str]:
    """The docstring of each field that has one, those of the structs it comes from too."""
    found: dict[str, str] = {}
    for one in reversed(struct.__mro__):
        found |= _docstrings(one.__module__).get(one.__name__, {})
    return {name: said for name, said in found.items() if name in struct.__struct_fields__}


@functools.cache
def _docstrings(module: str) -> dict[str, dict[str, str]]:
    """By class and field: the text that stands below the field."""
    if not module.startswith(__name__.partition(".")[0]):
        return {}
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {
        one.name: {
            field.target.id: " ".join(str(said.value.value).split())
            for field, said in zip(one.body, one.body[1:], strict=False)
            if isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(said, ast.Expr)
            and isinstance(said.value, ast.Constant)
        }
        for one in tree.body
        if isinstance(one, ast.ClassDef)
    }
