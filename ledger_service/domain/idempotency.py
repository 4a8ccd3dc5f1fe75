"""By what a repeated command is told: the digest of its key, and a hash of its content."""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec

Sha256 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_CANONICAL = msgspec.msgpack.Encoder(order="sorted")


def key_digest(ledger: str, key: str) -> bytes:
    """SHA-256 that stands for an idempotency key of a ledger: 32 bytes."""
    return hashlib.sha256(f"{ledger}\0{key}".encode()).digest()


def content_hash(content: tuple[object, ...]) -> bytes:
    """SHA-256 of what a command asks, by which it is told from another one under the same key."""
    return hashlib.sha256(_CANONICAL.encode(content)).digest()
