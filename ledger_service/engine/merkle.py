"""The Merkle tree of a journal: RFC 6962 hashes, tiles of C2SP tlog-tiles (256 hashes wide).

Leaf number i (from 0) is the event with `seq` i + 1. Only the right edge is held in memory: for
each level of tiles the hashes of the tile that is not full yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import msgspec

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(content: bytes) -> bytes:
    """Hash of a leaf (RFC 6962, 2.1)."""
    return sha256(b"\x00" + content).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


class Tile(msgspec.Struct, frozen=True):
    """A full tile: 256 hashes of one level, and the hash above them."""

    level: int
    index: int
    hashes: bytes
    root: bytes


class Tree:
    """The right edge of a tree, which is all that growing takes."""

    def __init__(self, edges: Sequence[Sequence[bytes]] = (), size: int = 0) -> None:
        """`edges`: per level the hashes of the tile not full yet, as `edge_ranges` names them."""
        self.size = size
        self._edges: list[list[bytes]] = [list(edge) for edge in edges]
        self._lonely: list[bytes | None] = []
        """By height: the subtree that is full and still waits for the one on its right."""
        for edge in self._edges:
            row = edge
            for _ in range(TILE_HEIGHT):
                self._lonely.append(row[-1] if len(row) & 1 else None)
                row = _parents(row)

    def extend(self, leaves: Sequence[bytes]) -> list[Tile]:
        """Add leaves by their hashes; gives the tiles that they fill."""
        full: list[Tile] = []
        row, first, height = list(leaves), self.size, 0
        self.size += len(row)
        while row:
            level, above = divmod(height, TILE_HEIGHT)
            if above == 0:
                if len(self._edges) == level:
                    self._edges.append([])
                    self._lonely += [None] * TILE_HEIGHT
                self._edges[level] += row
            left = self._lonely[height]
            if left is not None:
                row.insert(0, left)
                first -= 1
            self._lonely[height] = row[-1] if len(row) & 1 else None
            row, first, height = _parents(row), first >> 1, height + 1
            if height % TILE_HEIGHT == 0:
                full += self._cut(level, first, row)
        return full

    def _cut(self, level: int, first: int, above: Sequence[bytes]) -> list[Tile]:
        """The tiles of a level that are full: below each of the hashes `above`, from index `first`."""
        edge, width = self._edges[level], TILE_WIDTH
        tiles = [
            Tile(level, first + place, b"".join(edge[width * place : width * (place + 1)]), root)
            for place, root in enumerate(above)
        ]
        del edge[: width * len(above)]
        return tiles

    def root(self) -> bytes:
        """Hash of the whole tree."""
        hashed: bytes | None = None
        for left in self._lonely:
            if left is not None:
                hashed = left if hashed is None else node_hash(left, hashed)
        return EMPTY_ROOT if hashed is None else hashed


def _parents(row: Sequence[bytes]) -> list[bytes]:
    """The nodes above a row of hashes, two by two; an odd one at the end has none."""
    return [node_hash(left, right) for left, right in zip(row[::2], row[1::2], strict=False)]


def edge_ranges(size: int) -> list[tuple[int, int]]:
    """Per level: index of the first hash of the tile that is not full, and how many it has."""
    ranges: list[tuple[int, int]] = []
    while True:
        count = size % TILE_WIDTH
        ranges.append((size - count, count))
        size >>= TILE_HEIGHT
        if not size:
            return ranges
