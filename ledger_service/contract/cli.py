"""`tally contract`: the published schemas, and whether they keep what was released."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from ledger_service.contract import asyncapi, compatibility, schemas
from ledger_service.contract.schemas import Schema
from ledger_service.contract.snapshots import write_atomically

EVENTS, CHANNELS = "events.schema.json", "asyncapi.json"


def documents() -> dict[str, Schema]:
    """What is published, by the name of its file."""
    return {EVENTS: schemas.events_schema(), CHANNELS: asyncapi.document()}


def text(document: Schema) -> str:
    """A document as it is published: the same bytes for the same types."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def broken(released: Path) -> list[str]:
    """What the present contract breaks of the one in the folder `released`, each in a sentence."""
    events, channels = (json.loads((released / name).read_text()) for name in (EVENTS, CHANNELS))
    return [
        *compatibility.broken_events(events, schemas.events_schema()),
        *compatibility.broken_channels(channels, asyncapi.document()),
    ]


@click.group()
def contract() -> None:
    """JSON Schema and AsyncAPI of the events, made from the types."""


_FOLDER = click.Path(file_okay=False, path_type=Path)


@contract.command()
@click.argument("folder", type=_FOLDER)
def write(folder: Path) -> None:
    """Write both documents into FOLDER."""
    for name, document in documents().items():
        write_atomically(folder / name, text(document).encode())


@contract.command()
@click.argument("released", type=_FOLDER)
def check(released: Path) -> None:
    """Name what the present contract breaks of the one in RELEASED (exit 1)."""
    found = broken(released)
    for sentence in found:
        print(sentence)
    sys.exit(1 if found else 0)
