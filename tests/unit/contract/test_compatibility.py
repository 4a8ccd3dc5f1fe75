"""What today's contract owes to the released one: every kind of break is found, and named."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ledger_service.contract import asyncapi, cli, schemas
from ledger_service.contract.compatibility import broken_channels, broken_events

RELEASED = Path(__file__).parents[3] / "docs" / "contract" / "released"
EVENTS, CHANNELS = schemas.events_schema(), asyncapi.document()
Change = Callable[[Any], object]


def test_today_s_contract_keeps_what_was_released() -> None:
    answer = CliRunner().invoke(cli.contract, ["check", str(RELEASED)])
    assert (answer.exit_code, answer.output) == (0, "")


def test_a_break_is_said_and_fails(tmp_path: Path) -> None:
    for name, document in cli.documents().items():
        (tmp_path / name).write_text(cli.text(document))
    earlier = copy.deepcopy(EVENTS)
    earlier["$defs"]["Entry"]["properties"]["memo"] = {"type": "string", "default": ""}
    (tmp_path / cli.EVENTS).write_text(json.dumps(earlier))
    answer = CliRunner().invoke(cli.contract, ["check", str(tmp_path)])
    assert answer.exit_code == 1
    assert "transaction.posted.entries[].memo: the field is gone" in answer.output


def entry(schema: Any) -> Any:
    return schema["$defs"]["Entry"]


def posted(schema: Any) -> Any:
    return schema["$defs"]["transaction.posted"]


def context(schema: Any) -> Any:
    return schema["$defs"]["Context"]["properties"]


ENTRIES = "transaction.posted.entries[]"
POSTED = "transaction.posted"

BREAKS: list[tuple[Change, str]] = [
    (lambda s: s["oneOf"].pop(0), "ledger.opened: the event type is gone"),
    (lambda s: entry(s)["properties"].pop("side"), f"{ENTRIES}.side: the field is gone"),
    (lambda s: posted(s)["properties"].pop("batch"), f"{POSTED}.batch: the field is gone"),
    (lambda s: entry(s)["required"].remove("side"), f"{ENTRIES}.side: may now be left out"),
    (lambda s: posted(s)["required"].append("batch"), f"{POSTED}.batch: is now required"),
    (
        lambda s: (
            posted(s)["properties"].update(fee={"type": "string"}),
            posted(s)["required"].append("fee"),
        ),
        f"{POSTED}.fee: is new and required",
    ),
    (
        lambda s: entry(s)["properties"].update(amount={"type": "integer"}),
        f"{ENTRIES}.amount: was string, now is integer",
    ),
    (
        lambda s: posted(s)["properties"].update(
            kind={"anyOf": [{"type": "string"}, {"type": "null"}]}
        ),
        f"{POSTED}.kind: was string, now is null or string",
    ),
    (
        lambda s: posted(s)["properties"]["batch"].update(anyOf=[{"type": "string"}]),
        f"{POSTED}.batch: was null or string, now is string",
    ),
    (
        lambda s: posted(s)["properties"]["imposed"].update(default=True),
        f"{POSTED}.imposed: left out meant False, now means True",
    ),
    (
        lambda s: posted(s)["properties"]["imposed"].pop("default"),
        f"{POSTED}.imposed: left out meant False, now means not stated",
    ),
    (
        lambda s: entry(s)["properties"]["amount"].update(pattern="^[0-9]+$"),
        f"{ENTRIES}.amount: its form was '^[1-9][0-9]{{0,18}}$', now is '^[0-9]+$'",
    ),
    (
        lambda s: posted(s)["properties"]["effective_date"].pop("format"),
        f"{POSTED}.effective_date: its form was 'date', now is not stated",
    ),
    (
        lambda s: posted(s)["properties"]["seq"].update(minimum=0),
        f"{POSTED}.seq: its least value was 1, now is 0",
    ),
    (
        lambda s: posted(s)["properties"]["seq"].pop("maximum"),
        f"{POSTED}.seq: its greatest value was",
    ),
    (
        lambda s: entry(s)["properties"]["account"].update(maxLength=64),
        f"{ENTRIES}.account: its greatest length was 128, now is 64",
    ),
    (
        lambda s: posted(s)["properties"]["entries"].update(minItems=2),
        f"{POSTED}.entries: its least number of items was 1, now is 2",
    ),
    (
        lambda s: posted(s)["properties"]["metadata"].update(
            additionalProperties={"type": "integer"}
        ),
        f"{POSTED}.metadata[]: was string, now is integer",
    ),
    (
        lambda s: posted(s)["properties"]["metadata"].pop("additionalProperties"),
        f"{POSTED}.metadata: what it holds was",
    ),
    (
        lambda s: posted(s)["properties"]["v"].update(const=2),
        f"{POSTED}.v: its only value was 1, now is 2",
    ),
    (
        lambda s: entry(s)["properties"]["side"]["enum"].append("both"),
        f"{ENTRIES}.side: may now be both; released readers know only credit or debit",
    ),
    (
        lambda s: entry(s)["properties"]["side"]["enum"].remove("credit"),
        f"{ENTRIES}.side: no longer credit",
    ),
    (
        lambda s: context(s)["channel"]["enum"].remove("wire"),
        f"{POSTED}.context.channel: no longer wire",
    ),
    (
        lambda s: entry(s)["properties"]["side"].update({"x-may-grow": True}),
        f"{ENTRIES}.side: may now grow",
    ),
    (
        lambda s: entry(s)["properties"]["side"].pop("enum"),
        f"{ENTRIES}.side: its words were",
    ),
    (
        lambda s: entry(s).update(maxProperties=4),
        f"{ENTRIES}: its maxProperties, of which no rule is known, was not stated, now is 4",
    ),
]


@pytest.mark.parametrize(("change", "said"), BREAKS, ids=[said[:60] for _, said in BREAKS])
def test_a_change_that_breaks_a_reader_is_named(change: Change, said: str) -> None:
    present = copy.deepcopy(EVENTS)
    change(present)
    found = broken_events(EVENTS, present)
    assert any(one.startswith(said) for one in found), found


GROWTH: list[Change] = [
    lambda s: posted(s)["properties"].update(fee={"type": "string", "default": "0"}),
    lambda s: (
        s["$defs"].update(later={**posted(s)}) or s["oneOf"].append({"$ref": "#/$defs/later"})
    ),
    lambda s: context(s)["channel"]["enum"].append("stablecoin"),
    lambda s: posted(s)["properties"]["kind"].update(description="In other words."),
    lambda s: entry(s).update(title="Line"),
    lambda s: (
        s["$defs"].update(Line=s["$defs"].pop("Entry")),
        posted(s)["properties"]["entries"].update(items={"$ref": "#/$defs/Line"}),
        s["$defs"]["hold.placed"]["properties"]["entries"].update(items={"$ref": "#/$defs/Line"}),
        s["$defs"]["hold.released"]["properties"]["entries"].update(items={"$ref": "#/$defs/Line"}),
    ),
]


@pytest.mark.parametrize("change", GROWTH)
def test_what_may_come_within_a_version_is_no_break(change: Change) -> None:
    present = copy.deepcopy(EVENTS)
    change(present)
    assert present != EVENTS
    assert broken_events(EVENTS, present) == []


def message(document: Any) -> Any:
    return document["components"]["messages"]["transaction.posted"]


CHANNEL_BREAKS: list[tuple[Change, str]] = [
    (lambda d: d["channels"].pop("parties"), "parties: the channel is gone"),
    (
        lambda d: d["channels"]["journal"].update(address="journal.{ledger}"),
        "journal: the address was tallystick.{ledger}.journal.v1, now it is journal.{ledger}",
    ),
    (
        lambda d: d["channels"]["journal"]["bindings"]["kafka"].update(partitions=3),
        "journal: partitions or retention changed",
    ),
    (
        lambda d: d["channels"]["journal"]["messages"].pop("hold.placed"),
        "journal: hold.placed is no longer carried",
    ),
    (
        lambda d: d["components"]["schemas"]["headers"]["required"].remove("ts_seq"),
        "transaction.posted headers.ts_seq: may now be left out",
    ),
    (
        lambda d: d["components"]["schemas"]["headers"]["properties"].pop("ce_id"),
        "transaction.posted headers.ce_id: the field is gone",
    ),
    (
        lambda d: message(d)["headers"]["allOf"][1]["properties"]["ce_type"].update(const="posted"),
        "transaction.posted headers.ce_type: its only value was",
    ),
    (
        lambda d: message(d)["bindings"]["kafka"]["key"].update(type="integer"),
        "transaction.posted key: was string, now is integer",
    ),
    (
        lambda d: message(d).update(contentType="application/avro"),
        "transaction.posted: its name or content type changed",
    ),
]


@pytest.mark.parametrize(("change", "said"), CHANNEL_BREAKS)
def test_a_change_of_a_topic_that_breaks_a_reader_is_named(change: Change, said: str) -> None:
    present = copy.deepcopy(CHANNELS)
    change(present)
    found = broken_channels(CHANNELS, present)
    assert any(one.startswith(said) for one in found), found


def test_a_new_channel_and_header_are_no_break() -> None:
    present = copy.deepcopy(CHANNELS)
    present["channels"]["checkpoints"] = present["channels"]["parties"]
    present["components"]["schemas"]["headers"]["properties"]["ts_root"] = {"type": "string"}
    assert broken_channels(CHANNELS, present) == []
