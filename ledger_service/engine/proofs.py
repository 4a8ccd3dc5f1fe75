"""Inclusion and consistency proofs of RFC 6962 (2.1.1, 2.1.2), from leaf hashes and tiles.

The pure part says which ranges of leaves a proof is made of, and checks proofs; the rest reads the
hash of a range from the database: a range is cut into complete subtrees, each of which is a few
stored hashes of one level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ledger_service.engine.merkle import EMPTY_ROOT, TILE_HEIGHT, node_hash
from ledger_service.engine.stored_tree import stored_hashes

Range = tuple[int, int]
"""Leaves from the first number up to, not including, the second."""


class ProofError(ValueError):
    """A proof that can't be given, or that does not hold."""


def _largest_power_below(size: int) -> int:
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_ranges(index: int, start: int, end: int) -> list[Range]:
    """What the proof of leaf `index` in the tree of leaves `start` .. `end` consists of."""
    if end - start == 1:
        return []
    middle = start + _largest_power_below(end - start)
    if index < middle:
        return [*inclusion_ranges(index, start, middle), (middle, end)]
    return [*inclusion_ranges(index, middle, end), (start, middle)]


def consistency_ranges(first: int, second: int) -> list[Range]:
    """What the proof consists of that the tree of `first` leaves begins that of `second`."""
    return [] if first in {0, second} else _subproof(first, 0, second, is_whole=True)


def _subproof(first: int, start: int, end: int, *, is_whole: bool) -> list[Range]:
    if first == end:
        return [] if is_whole else [(start, end)]
    middle = start + _largest_power_below(end - start)
    if first <= middle:
        return [*_subproof(first, start, middle, is_whole=is_whole), (middle, end)]
    return [*_subproof(first, middle, end, is_whole=False), (start, middle)]


def root_from_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """The root that a leaf's proof leads to (RFC 9162, 2.1.3.2). Errors: `ProofError`."""
    if not 0 <= index < size:
        raise ProofError("the leaf is not in the tree")
    node, last, hashed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofError("the proof is too long")
        if node & 1 or node == last:
            hashed = node_hash(sibling, hashed)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            hashed = node_hash(hashed, sibling)
        node, last = node >> 1, last >> 1
    if last:
        raise ProofError("the proof is too short")
    return hashed


def check_consistency(
    first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]
) -> None:
    """Whether the second tree continues the first (RFC 9162, 2.1.4.2). Errors: `ProofError`."""
    if first > second:
        raise ProofError("the tree has shrunk")
    if first in {0, second}:
        expected = first_root if first else EMPTY_ROOT
        if proof or (first == second and first_root != second_root) or expected != first_root:
            raise ProofError("another tree of the same size")
        return
    path = list(proof)
    if first & (first - 1) == 0:
        path.insert(0, first_root)
    if not path:
        raise ProofError("the proof is too short")
    node, last = first - 1, second - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofError("the proof is too long")
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        node, last = node >> 1, last >> 1
    if last or old != first_root or new != second_root:
        raise ProofError("the second tree does not continue the first")


# --- from the database --------------------------------------------------------------------------


def _complete_subtrees(start: int, end: int) -> list[Range]:
    found: list[Range] = []
    while start < end:
        size = start & -start or 1 << (end - start).bit_length()
        while start + size > end:
            size >>= 1
        found.append((start, start + size))
        start += size
    return found


async def range_hash(connection: Any, ledger: str, leaves: Range) -> bytes:
    """Hash of a range of leaves that is a node of some tree. Errors: `ProofError` for a hole."""
    hashes = [
        await _subtree_hash(connection, ledger, subtree) for subtree in _complete_subtrees(*leaves)
    ]
    hashed = hashes.pop()
    while hashes:
        hashed = node_hash(hashes.pop(), hashed)
    return hashed


async def _subtree_hash(connection: Any, ledger: str, leaves: Range) -> bytes:
    start, end = leaves
    level, extra = divmod((end - start).bit_length() - 1, TILE_HEIGHT)
    stored = await stored_hashes(
        connection, ledger, level, start >> TILE_HEIGHT * level, 1 << extra
    )
    if len(stored) != 1 << extra:
        raise ProofError(f"leaves {start} to {end} of {ledger} are not all stored")
    while len(stored) > 1:
        stored = [node_hash(stored[i], stored[i + 1]) for i in range(0, len(stored), 2)]
    return stored[0]


async def inclusion(connection: Any, ledger: str, seq: int, size: int) -> list[bytes]:
    """Proof that the event `seq` is in the tree of the first `size` events."""
    ranges = inclusion_ranges(seq - 1, 0, size)
    return [await range_hash(connection, ledger, leaves) for leaves in ranges]


async def consistency(connection: Any, ledger: str, first: int, second: int) -> list[bytes]:
    """Proof that the first `second` events begin with the first `first`."""
    ranges = consistency_ranges(first, second)
    return [await range_hash(connection, ledger, leaves) for leaves in ranges]


async def root_at(connection: Any, ledger: str, size: int) -> bytes:
    """Root of the tree of the first `size` events."""
    return await range_hash(connection, ledger, (0, size)) if size else EMPTY_ROOT
