"""The trees of RFC 6962, word for word: slow and obvious."""

from __future__ import annotations

import hashlib


def leaf(raw: bytes) -> bytes:
    """2.1: the hash of an entry."""
    return hashlib.sha256(b"\x00" + raw).digest()


def node(left: bytes, right: bytes) -> bytes:
    """2.1: the hash of two subtrees."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaves: list[bytes]) -> bytes:
    """2.1, MTH."""
    if len(leaves) == 1:
        return leaves[0]
    split = _split(leaves)
    return node(root(leaves[:split]), root(leaves[split:]))


def path(index: int, leaves: list[bytes]) -> list[bytes]:
    """2.1.1, PATH."""
    if len(leaves) == 1:
        return []
    split = _split(leaves)
    if index < split:
        return [*path(index, leaves[:split]), root(leaves[split:])]
    return [*path(index - split, leaves[split:]), root(leaves[:split])]


def consistency(first: int, leaves: list[bytes], *, whole: bool = True) -> list[bytes]:
    """2.1.2, PROOF and SUBPROOF; `whole`: the smaller tree is one that the asker knows."""
    if first == len(leaves):
        return [] if whole else [root(leaves)]
    split = _split(leaves)
    if first <= split:
        return [*consistency(first, leaves[:split], whole=whole), root(leaves[split:])]
    return [*consistency(first - split, leaves[split:], whole=False), root(leaves[:split])]


def _split(leaves: list[bytes]) -> int:
    """The largest power of two below the number of leaves."""
    return 1 << (len(leaves) - 1).bit_length() - 1
