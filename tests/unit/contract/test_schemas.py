"""The published schemas: what the types give, what every event is, and what no event is."""

from __future__ import annotations

import copy
import functools
import itertools
import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft7Validator, Draft202012Validator

from ledger_service.contract import asyncapi, cli, forms, schemas, topics
from ledger_service.contract.events import (
    JournalEvent,
    StreamEvent,
    decode_journal,
    decode_stream,
    encode,
    event_type,
)
from ledger_service.contract.identifiers import LEDGER
from tests import ledger_events
from tests.any_event import any_event

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).with_name("v1")
SCHEMA = schemas.events_schema()


@functools.cache
def validator(name: str) -> Draft202012Validator:
    """Of one event type: its name leads to its schema, as a reader finds it."""
    return Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]})


def golden(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{name}.jsonl").read_bytes().splitlines()[0])


@pytest.mark.parametrize("name", [cli.EVENTS, cli.CHANNELS])
def test_what_is_published_is_what_the_types_give(name: str) -> None:
    published = (ROOT / "docs" / "contract" / name).read_text()
    assert published == cli.text(cli.documents()[name]), "run `make contract`"


def references(node: Any) -> list[str]:
    """Every reference of a document."""
    if isinstance(node, list):
        return [one for inner in node for one in references(inner)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if "$ref" in node else []
    return own + [one for inner in node.values() for one in references(inner)]


def at(document: Any, reference: str) -> Any:
    """What a reference leads to. Errors: KeyError."""
    return functools.reduce(
        lambda node, step: node[step], reference.removeprefix("#/").split("/"), document
    )


def test_the_schemas_are_valid_by_their_own_standards() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    for schema in asyncapi.document()["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)


def test_the_asyncapi_document_is_whole() -> None:
    """What AsyncAPI 3.0 demands of one: its version, who it is, and references that lead somewhere."""
    document = asyncapi.document()
    assert document["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= document["info"].keys()
    for document_, found in ((document, references(document)), (SCHEMA, references(SCHEMA))):
        assert all(isinstance(at(document_, reference), dict) for reference in found)
    channels = {operation["channel"]["$ref"] for operation in document["operations"].values()}
    assert channels == {f"#/channels/{name}" for name in document["channels"]}
    assert {operation["action"] for operation in document["operations"].values()} == {"send"}
    carried = {name for one in document["channels"].values() for name in one["messages"]}
    assert carried == document["components"]["messages"].keys()


def test_every_event_of_our_histories_is_valid() -> None:
    events = [
        *ledger_events.history("books", 40),
        *ledger_events.holds_and_periods("books", 100),
        *ledger_events.declarations("books", 200),
        *ledger_events.parties(2),
        *ledger_events.statement("books", "2026-07-01", 5, [("credit", 5, "ACH 1")]),
    ]
    for event in events:
        validator(event_type(event)).validate(json.loads(encode(event)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(event=any_event())
def test_whatever_the_types_allow_is_valid_and_comes_back(event: Any) -> None:
    raw = encode(event)
    validator(event_type(event)).validate(json.loads(raw))
    decode = decode_stream if hasattr(event, "stream") else decode_journal
    assert decode(raw) == event
    assert encode(decode(raw)) == raw


POSTED = golden("transaction.posted")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("entries", 0, "amount"), 12.5),
        (("entries", 0, "amount"), 1250),
        (("entries", 0, "amount"), "12.50"),
        (("entries", 0, "amount"), "0"),
        (("entries", 0, "amount"), "-5"),
        (("entries", 0, "amount"), "007"),
        (("entries", 0, "amount"), "1e3"),
        (("entries", 0, "side"), "both"),
        (("entries", 0, "currency"), "usd"),
        (("entries", 0, "account"), "Customer 42"),
        (("entries",), []),
        (("seq",), 0),
        (("seq",), 1.5),
        (("seq",), "1"),
        (("v",), 2),
        (("type",), "transaction.undone"),
        (("recorded_at",), "2026-07-01T16:00:00Z"),
        (("recorded_at",), "2026-07-01T18:00:00.000000+02:00"),
        (("effective_date",), "1 July 2026"),
        (("idempotency_digest",), "abc"),
        (("metadata",), {"n": 1}),
        (("context",), None),
        (("imposed",), "true"),
    ],
)
def test_what_no_event_may_hold_is_refused(path: tuple[Any, ...], value: object) -> None:
    broken = copy.deepcopy(POSTED)
    inside: Any = functools.reduce(lambda one, step: one[step], path[:-1], broken)
    inside[path[-1]] = value
    assert not validator("transaction.posted").is_valid(broken)
    assert not Draft202012Validator(SCHEMA).is_valid(broken)


def test_what_an_event_needs_can_t_be_left_out() -> None:
    for cls in get_args(JournalEvent | StreamEvent):
        name = event_type(cls)
        event = golden(name)
        validator(name).validate(event)
        needed = [field.name for field in msgspec.structs.fields(cls) if field.required]
        for field in ("type", "v", *needed):
            less = {key: value for key, value in event.items() if key != field}
            assert not validator(name).is_valid(less), f"{name} without {field}"


def test_readers_pass_over_fields_they_don_t_know() -> None:
    later = {**POSTED, "settles_on": "2026-07-03"}
    validator("transaction.posted").validate(later)
    assert decode_journal(json.dumps(later).encode()) == decode_journal(json.dumps(POSTED).encode())


def test_money_is_never_a_number() -> None:
    """Whole numbers are positions, versions, counts and weights; there is no other kind of number."""
    numbers = {
        field
        for schema in SCHEMA["$defs"].values()
        for field, form in schema["properties"].items()
        if {one.get("type") for one in (form, *form.get("anyOf", []))} & {"integer", "number"}
    }
    assert numbers == {
        "v", "seq", "captures", "corrects", "reverses", "hold", "version", "exponent", "weight",
        "tree_size", "line_no", "line_count", "rounded_half_minor_per_entry",
    }  # fmt: skip
    assert '"number"' not in cli.text(SCHEMA)


def test_every_field_is_said_in_the_order_of_the_bytes() -> None:
    for name in (one["$ref"].rpartition("/")[2] for one in SCHEMA["oneOf"]):
        order = {field: n for n, field in enumerate(SCHEMA["$defs"][name]["properties"])}
        for line in (GOLDEN / f"{name}.jsonl").read_bytes().splitlines():
            places = [order[field] for field in json.loads(line)]
            assert places == sorted(places), name


def test_the_headers_are_those_of_the_records() -> None:
    document = asyncapi.document()
    messages, of = document["components"]["messages"], document["components"]["schemas"]
    for name, message in messages.items():
        assert message["name"] == message["headers"]["allOf"][1]["properties"]["ce_type"]["const"]
        checked = Draft7Validator({**message["headers"], "components": {"schemas": of}})
        said = topics.headers(
            source="books", seq=7, event_type=name, time="2026-07-01T16:00:00.000000Z", subject="b"
        )
        headers = {key: value.decode() for key, value in said}
        checked.validate(headers)
        for key in headers:
            rest = {other: value for other, value in headers.items() if other != key}
            assert not checked.is_valid(rest), key
        assert not checked.is_valid({**headers, "ce_type": "tallystick.other.v1"})


def test_the_channels_are_the_topics() -> None:
    channels = asyncapi.document()["channels"]
    addresses = {name: channel["address"] for name, channel in channels.items()}
    assert addresses == {
        "journal": topics.journal_topic("{ledger}"),
        **{stream: topics.stream_topic(stream) for stream in topics.STREAMS},
    }
    carried = itertools.chain(*(channel["messages"] for channel in channels.values()))
    assert sorted(carried) == sorted(
        event_type(event) for event in get_args(JournalEvent | StreamEvent)
    )


def test_a_ledger_s_form_is_its_name_s() -> None:
    """But for the lookahead that keeps streams' names free, which not every language has."""
    assert forms.Ledger.__metadata__[0].extra_json_schema["pattern"].strip("^$") in LEDGER.pattern
