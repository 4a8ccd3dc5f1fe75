"""Every event ever written decodes, and its canonical bytes stay what they were.

`v1/` holds the canonical bytes of events as they were first written, a file for each type, a line for
each variant. Lines are added; none is ever changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger_service.contract.events import decode_journal, decode_stream, encode, event_type
from ledger_service.contract.schemas import events_schema

FILES = {path.stem: path for path in sorted(Path(__file__).with_name("v1").glob("*.jsonl"))}
SCHEMA = events_schema()
NAMES = [one["$ref"].rpartition("/")[2] for one in SCHEMA["oneOf"]]


def test_there_is_a_file_for_every_type() -> None:
    assert sorted(FILES) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_written_decodes_and_encodes_to_the_same_bytes(name: str) -> None:
    for raw in FILES[name].read_bytes().splitlines():
        event = decode_stream(raw) if b'"stream":' in raw else decode_journal(raw)
        assert event_type(event) == name
        assert encode(event) == raw


@pytest.mark.parametrize("name", NAMES)
def test_every_field_stands_in_some_line(name: str) -> None:
    lines = [json.loads(line) for line in FILES[name].read_bytes().splitlines()]
    written = {field for line in lines for field in _written(line, name)}
    assert written == set(_fields(name)), "add a line that writes the rest"


def _fields(name: str) -> Iterator[str]:
    """Every field of an event and of what it holds: `entries.amount`."""
    for field, form in SCHEMA["$defs"][name]["properties"].items():
        yield field
        for inner in _structs(form):
            yield from (f"{field}.{one}" for one in _fields(inner))


def _written(value: dict[str, Any], name: str) -> Iterator[str]:
    for field, held in value.items():
        yield field
        for inner in _structs(SCHEMA["$defs"][name]["properties"][field]):
            for one in held if isinstance(held, list) else [held]:
                yield from (f"{field}.{more}" for more in _written(one, inner))


def _structs(form: dict[str, Any]) -> list[str]:
    """The names of the structs that a field holds."""
    forms = [form, form.get("items", {}), *form.get("anyOf", [])]
    return [one["$ref"].rpartition("/")[2] for one in forms if "$ref" in one]
