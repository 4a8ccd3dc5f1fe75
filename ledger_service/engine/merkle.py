"""The Merkle tree of a journal: RFC 6962 hashes, tiles of C2SP tlog-tiles (256 hashes wide).

Leaf number i (from 0) is the event with `seq` i + 1. Only the right edge is held in memory: for
each level of tiles the hashes of the tile that is not full yet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(content: bytes) -> bytes:
    """Hash of a leaf (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x00" + content).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tile(msgspec.Struct, frozen=True):
    """A full tile: 256 hashes of one level, and the hash above them."""

    level: int
    index: int
    hashes: bytes
    root: bytes


class Tree:
    """The right edge of a tree, which is all that appending takes."""

    def __init__(self, edges: Sequence[Sequence[bytes]] = (), size: int = 0) -> None:
        """`edges`: per level the hashes of the tile not full yet, as `edge_ranges` names them."""
        self.size = size
        self._edges: list[list[bytes]] = [list(edge) for edge in edges] or [[]]
        self._stack: list[tuple[int, bytes]] = []
        for level in range(len(self._edges) - 1, -1, -1):
            for hashed in self._edges[level]:
                self._push(TILE_HEIGHT * level, hashed)

    def _push(self, height: int, hashed: bytes) -> list[tuple[int, bytes]]:
        """Merge a subtree into the stack; gives the nodes made on the way, with their heights."""
        made: list[tuple[int, bytes]] = []
        while self._stack and self._stack[-1][0] == height:
            hashed = node_hash(self._stack.pop()[1], hashed)
            height += 1
            made.append((height, hashed))
        self._stack.append((height, hashed))
        return made

    def append(self, hashed: bytes) -> Sequence[Tile]:
        """Add a leaf by its hash; gives the tiles that it fills."""
        self._edges[0].append(hashed)
        self.size += 1
        if self.size & 1:
            self._stack.append((0, hashed))
            return ()
        made = self._push(0, hashed)
        if self.size % TILE_WIDTH:
            return []
        full: list[Tile] = []
        for height, node in made:
            if height % TILE_HEIGHT == 0:
                level = height // TILE_HEIGHT
                hashes = b"".join(self._edges[level - 1])
                full.append(Tile(level - 1, (self.size >> height) - 1, hashes, node))
                self._edges[level - 1] = []
                if len(self._edges) == level:
                    self._edges.append([])
                self._edges[level].append(node)
        return full

    def root(self) -> bytes:
        """Hash of the whole tree."""
        if not self._stack:
            return EMPTY_ROOT
        hashed = self._stack[-1][1]
        for _, left in reversed(self._stack[:-1]):
            hashed = node_hash(left, hashed)
        return hashed


def edge_ranges(size: int) -> list[tuple[int, int]]:
    """Per level: index of the first hash of the tile that is not full, and how many it has."""
    ranges: list[tuple[int, int]] = []
    while True:
        count = size % TILE_WIDTH
        ranges.append((size - count, count))
        size >>= TILE_HEIGHT
        if not size:
            return ranges
