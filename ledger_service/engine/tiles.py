"""The tree as files: C2SP tlog-tiles, so that verifiers which others wrote can read it.

    tile/<L>/<N>[.p/<W>]        hashes of level L, 32 bytes each, 256 or W of them from N * 256 on
    tile/entries/<N>[.p/<W>]    events, each behind its length as two bytes

N is written in groups of three digits, all but the last behind an x: 1234067 is x001/x234/067.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ledger_service.engine import reads
from ledger_service.engine.merkle import TILE_WIDTH
from ledger_service.engine.stored_tree import stored_hashes

MAX_LEVEL = 7
"""Above it a tree would have more than 2^63 leaves."""
_PLACE = re.compile(r"(?P<index>(?:x[0-9]{3}/)*[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?")


class Place(msgspec.Struct, frozen=True):
    """Which tile of a level, and how many of its hashes or entries."""

    index: int
    width: int = TILE_WIDTH

    def path(self) -> str:
        """`<N>[.p/<W>]`."""
        groups = f"{self.index:,}".split(",")
        head = "".join(f"x{group:0>3}/" for group in groups[:-1])
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"{head}{groups[-1]:0>3}{partial}"


def parse(path: str) -> Place | None:
    """The place that a path names, None for one that is written otherwise than the format says."""
    match = _PLACE.fullmatch(path)
    if match is None or len(path) > 40:
        return None
    index = int(re.sub("[x/]", "", match["index"]))
    place = Place(index, int(match["width"] or TILE_WIDTH))
    return place if place.path() == path else None


async def hashes(connection: Any, ledger: str, level: int, place: Place) -> bytes | None:
    """The hashes of a tile; None while the tree has fewer."""
    if not 0 <= level <= MAX_LEVEL or place.index >= 1 << 63 - 8 * (level + 1):
        return None
    first = place.index * TILE_WIDTH
    found = await stored_hashes(connection, ledger, level, first, place.width)
    return b"".join(found) if len(found) == place.width else None


async def entries(connection: Any, ledger: str, place: Place) -> bytes | None:
    """The events under a tile of level 0; None while there are fewer."""
    if place.index >= 1 << 55:
        return None
    first = place.index * TILE_WIDTH
    events = reads.event_bytes(connection, ledger, after_seq=first, limit=place.width)
    found = [len(raw).to_bytes(2, "big") + raw async for raw in events]
    return b"".join(found) if len(found) == place.width else None
