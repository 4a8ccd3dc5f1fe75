"""Checkpoints: signed statements of a tree's size and root (C2SP tlog-checkpoint, signed-note).

A note is text, an empty line, and signature lines. The text names the origin, the size and the
root; a witness adds a signature line of its own (C2SP tlog-cosignature, cosignature/v1).
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger_service.contract import environment

ED25519 = b"\x01"
COSIGNATURE_V1 = b"\x04"
"""Signature types of C2SP signed-note."""
INTERVAL_S = 2.0


class CheckpointError(ValueError):
    """A note that is no checkpoint, or whose signature does not hold."""


class Checkpoint(msgspec.Struct, frozen=True):
    """A tree as its log states it."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The signed text, with its final newline."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def parse(note: str) -> Checkpoint:
    """The checkpoint in a note, signatures not looked at. Errors: `CheckpointError`."""
    try:
        origin, size, root, *_ = note.split("\n\n", 1)[0].split("\n")
        found = Checkpoint(origin, int(size), base64.b64decode(root, validate=True))
    except ValueError as error:
        raise CheckpointError(f"this is no checkpoint: {error}") from None
    if not found.origin or found.size < 0 or len(found.root) != 32:
        raise CheckpointError("this is no checkpoint: not an origin, a size and a root")
    return found


def key_id(name: str, kind: bytes, public_key: bytes) -> bytes:
    """The four bytes by which a signature line names its key."""
    return hashlib.sha256(name.encode() + b"\n" + kind + public_key).digest()[:4]


def signature_line(name: str, kind: bytes, public_key: bytes, signature: bytes) -> str:
    """One signature line, without newline."""
    coded = base64.b64encode(key_id(name, kind, public_key) + signature).decode()
    return f"— {name} {coded}"


def signatures(note: str) -> list[tuple[str, bytes, bytes]]:
    """Name, key id and signature of each signature line. Errors: `CheckpointError`."""
    found: list[tuple[str, bytes, bytes]] = []
    for line in note.split("\n\n", 1)[-1].splitlines():
        dash, _, rest = line.partition(" ")
        name, _, coded = rest.rpartition(" ")
        if dash != "—" or not name:
            raise CheckpointError("a signature line is '— name base64'")
        raw = base64.b64decode(coded)
        found.append((name, raw[:4], raw[4:]))
    return found


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The raw public half of a key."""
    return key.public_key().public_bytes_raw()


def sign(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> str:
    """The note of a checkpoint, signed in the name of its origin."""
    text = checkpoint.text()
    line = signature_line(checkpoint.origin, ED25519, public_bytes(key), key.sign(text.encode()))
    return f"{text}\n{line}\n"


def verify(note: str, public_key: bytes) -> Checkpoint:
    """The checkpoint in a note that the log's key has signed. Errors: `CheckpointError`."""
    checkpoint = parse(note)
    wanted = checkpoint.origin, key_id(checkpoint.origin, ED25519, public_key)
    for name, identity, signature in signatures(note):
        if (name, identity) == wanted:
            return _checked(checkpoint, public_key, signature, checkpoint.text().encode())
    raise CheckpointError(f"no signature of {checkpoint.origin} with the known key")


def _checked(checkpoint: Checkpoint, key: bytes, signature: bytes, content: bytes) -> Checkpoint:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, content)
    except InvalidSignature:
        raise CheckpointError(f"a signature on {checkpoint.origin} does not hold") from None
    return checkpoint


def _cosigned_content(text: str, timestamp: int) -> bytes:
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


def cosign(checkpoint: Checkpoint, witness: str, key: Ed25519PrivateKey, timestamp: int) -> str:
    """A witness's signature line. `timestamp`: Unix seconds."""
    signature = key.sign(_cosigned_content(checkpoint.text(), timestamp))
    stamped = timestamp.to_bytes(8, "big") + signature
    return signature_line(witness, COSIGNATURE_V1, public_bytes(key), stamped)


def verify_cosignature(checkpoint: Checkpoint, line: str, witness: str, public_key: bytes) -> int:
    """When a witness signed (Unix seconds). Errors: `CheckpointError`."""
    name, identity, stamped = signatures("\n\n" + line)[0]
    if (name, identity) != (witness, key_id(witness, COSIGNATURE_V1, public_key)):
        raise CheckpointError(f"the line is not of {witness} with the known key")
    timestamp = int.from_bytes(stamped[:8], "big")
    content = _cosigned_content(checkpoint.text(), timestamp)
    _checked(checkpoint, public_key, stamped[8:], content)
    return timestamp


def read_private_key(setting: str) -> Ed25519PrivateKey:
    """A key from a setting that holds its 32-byte seed in base64. Errors: `CheckpointError`."""
    try:
        seed = base64.b64decode(environment.read(setting), validate=True)
        return Ed25519PrivateKey.from_private_bytes(seed)
    except ValueError:
        raise CheckpointError(f"{setting} must be 32 bytes in base64") from None


class Publisher:
    """Signs the heads of the ledgers of this process and stores the notes."""

    def __init__(self, key: Ed25519PrivateKey, origin: str, interval_s: float = INTERVAL_S) -> None:
        self._key = key
        self._origin = origin
        self.interval_s = interval_s
        self._published: dict[str, int] = {}

    @classmethod
    def from_environment(cls) -> Publisher:
        """With TALLYSTICK_LOG_KEY and TALLYSTICK_LOG_ORIGIN."""
        return cls(
            read_private_key("TALLYSTICK_LOG_KEY"), environment.read("TALLYSTICK_LOG_ORIGIN")
        )

    async def publish(self, connect: Callable[[], Awaitable[Any]], ledger: str) -> int | None:
        """Publish where the ledger stands, if it moved; gives the checkpoint's size."""
        connection = await connect()
        try:
            head = await connection.fetchrow(
                "select seq, root from ledger.head where ledger = $1", ledger
            )
            if head is None or not head["seq"] or self._published.get(ledger) == head["seq"]:
                return None
            note = sign(
                Checkpoint(f"{self._origin}/{ledger}", head["seq"], head["root"]), self._key
            )
            await connection.execute(
                "insert into ledger.checkpoint (ledger, size, root, note) values ($1, $2, $3, $4) "
                "on conflict do nothing",
                ledger,
                head["seq"],
                head["root"],
                note,
            )
            self._published[ledger] = head["seq"]
            return head["seq"]
        finally:
            connection.terminate()


def now() -> int:
    """Unix seconds."""
    return int(time.time())
