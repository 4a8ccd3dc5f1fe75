"""Checks by the console itself that a transaction is in a signed log (RFC 6962, C2SP signed notes).

Nothing here asks the ledger whether it is right: hashes are computed from the event's bytes up to
the root of a checkpoint, and the checkpoint's signatures are checked with the public keys the console
was given. Sources: RFC 6962 section 2.1 (tree hashes, audit paths); C2SP `tlog-checkpoint`,
`signed-note` and `tlog-cosignature`.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
from collections.abc import Sequence
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_ED25519 = 1
_COSIGNATURE_V1 = 4


class ProofError(ValueError):
    """A proof or checkpoint that does not hold; the message says where."""


class Step(msgspec.Struct, frozen=True):
    """One level of the way up: the sibling's hash, on which side it stands, and what comes out."""

    side: Literal["left", "right"]
    sibling: bytes
    result: bytes


def leaf_hash(event: bytes) -> bytes:
    """RFC 6962: SHA-256 of 0x00 and the event's canonical bytes."""
    return hashlib.sha256(b"\x00" + event).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962: SHA-256 of 0x01 and both children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def climb(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> list[Step]:
    """The way from a leaf hash to the root of a tree of `size` leaves; the last result is the root.

    `index` counts from 0. Errors: `ProofError` where the path's length does not fit index and size.
    """
    if not 0 <= index < size:
        raise ProofError(f"Leaf {index} is not in a tree of {size} leaves.")
    steps: list[Step] = []
    here, last, current = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise ProofError("The proof has more hashes than the tree has levels.")
        if here % 2 or here == last:
            current = node_hash(sibling, current)
            steps.append(Step("left", sibling, current))
            # A last node without a right sibling moves up unchanged.
            while here % 2 == 0 and here:
                here, last = here // 2, last // 2
        else:
            current = node_hash(current, sibling)
            steps.append(Step("right", sibling, current))
        here, last = here // 2, last // 2
    if last != 0:
        raise ProofError("The proof has fewer hashes than the tree has levels.")
    return steps


def continues(
    first: int, first_root: bytes, second: int, second_root: bytes, path: Sequence[bytes]
) -> bool:
    """Whether a tree of `second` leaves has as its first leaves those of an earlier tree of `first`.

    `path` is the consistency proof. Source: RFC 9162, section 2.1.4.2, step for step.
    """
    if not 0 < first <= second:
        return False
    if first == second:
        return not path and first_root == second_root
    # A smaller tree that is a whole subtree of the larger one is left out of the proof.
    nodes = [first_root, *path] if first & (first - 1) == 0 else list(path)
    if not nodes:
        return False
    here, last = first - 1, second - 1
    while here % 2:
        here, last = here // 2, last // 2
    before = after = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            return False
        if here % 2 or here == last:
            before, after = node_hash(node, before), node_hash(node, after)
            while here % 2 == 0 and here:
                here, last = here // 2, last // 2
        else:
            after = node_hash(after, node)
        here, last = here // 2, last // 2
    return last == 0 and before == first_root and after == second_root


class Signature(msgspec.Struct, frozen=True):
    """One signature line of a note, and whether a known key made it."""

    name: str
    kind: Literal["log", "witness", "unknown"]
    valid: bool
    signed_at: dt.datetime | None = None
    """When a witness says it saw the checkpoint."""


class Checkpoint(msgspec.Struct, frozen=True):
    """A signed statement: the log of `origin` has `size` leaves and this root."""

    origin: str
    size: int
    root: bytes
    signatures: list[Signature]
    text: str

    def signed_by(self, kind: str) -> bool:
        """Whether a valid signature of this kind stands under it."""
        return any(signature.valid and signature.kind == kind for signature in self.signatures)


class Keys(msgspec.Struct, frozen=True):
    """Public keys that the console was given, raw 32 bytes; None where it was given none."""

    log: bytes | None
    witness: bytes | None


def public_key(text: str) -> bytes | None:
    """A setting's base64 as a raw key; None for the empty text. Errors: `ProofError`."""
    if not text:
        return None
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ProofError("A public key is 32 bytes in base64.") from error
    if len(raw) != 32:
        raise ProofError("A public key is 32 bytes in base64.")
    return raw


def read_checkpoint(text: str, keys: Keys) -> Checkpoint:
    """A signed note, each signature checked. Errors: `ProofError` for what is no checkpoint."""
    body, separator, signatures = text.rpartition("\n\n")
    body += "\n"
    lines = body.split("\n")
    if not separator or len(lines) < 4:
        raise ProofError("This is no signed checkpoint.")
    try:
        origin, size, root = lines[0], int(lines[1]), base64.b64decode(lines[2], validate=True)
    except ValueError as error:
        raise ProofError("The checkpoint's size or root can't be read.") from error
    found = [_signature(line, body.encode(), keys) for line in signatures.splitlines() if line]
    return Checkpoint(origin, size, root, found, text)


def _signature(line: str, body: bytes, keys: Keys) -> Signature:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "—":
        raise ProofError("A signature line of the checkpoint can't be read.")
    name = parts[1]
    try:
        blob = base64.b64decode(parts[2], validate=True)
    except binascii.Error as error:
        raise ProofError("A signature of the checkpoint can't be read.") from error
    key_hash, signature = blob[:4], blob[4:]
    if keys.log and key_hash == _key_hash(name, _ED25519, keys.log):
        return Signature(name, "log", _holds(keys.log, signature, body))
    if keys.witness and key_hash == _key_hash(name, _COSIGNATURE_V1, keys.witness):
        seconds = int.from_bytes(signature[:8], "big")
        message = b"cosignature/v1\ntime %d\n" % seconds + body
        holds = _holds(keys.witness, signature[8:], message)
        return Signature(name, "witness", holds, dt.datetime.fromtimestamp(seconds, dt.UTC))
    return Signature(name, "unknown", valid=False)


def _key_hash(name: str, algorithm: int, key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + bytes([algorithm]) + key).digest()[:4]


def _holds(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True
