"""Checkpoints: signed statements of a tree's size and root (C2SP tlog-checkpoint, signed-note).

A note is text, an empty line, and signature lines. The text names the origin, the size and the
root; a witness adds a signature line of its own (C2SP tlog-cosignature, cosignature/v1).
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger_service.contract import environment
from ledger_service.engine import proofs

ED25519 = b"\x01"
COSIGNATURE_V1 = b"\x04"
"""Signature types of C2SP signed-note."""
INTERVAL_S = 2.0
TURN_S = 10.0
"""How long one publisher of a ledger waits for another."""
_TURN = "select pg_advisory_lock(hashtext('ledger.checkpoint'), hashtext($1))"
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_TEXT = re.compile(r"[^\x00-\x09\x0b-\x1f\x7f]*")
"""No control characters but the newline."""


class CheckpointError(ValueError):
    """A note that is no checkpoint, or whose signature does not hold."""


class Checkpoint(msgspec.Struct, frozen=True):
    """A tree as its log states it. `extensions`: further lines, which are signed and not read."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """The signed text, with its final newline."""
        lines = [self.origin, str(self.size), base64.b64encode(self.root).decode()]
        return "".join(f"{line}\n" for line in (*lines, *self.extensions))


def parse(note: str) -> Checkpoint:
    """The checkpoint in a note, signatures not looked at. Errors: `CheckpointError`.

    As strict as the specification: another writing of the same size or root is another text, whose
    signature is not this one's.
    """
    text, separator, lines = note.rpartition("\n\n")
    if not separator or not lines.endswith("\n"):
        raise CheckpointError("this is no signed note: text, empty line, signature lines")
    origin, _, rest = text.partition("\n")
    size, _, rest = rest.partition("\n")
    root, *extensions = rest.split("\n")
    check_name(origin)
    if not _SIZE.fullmatch(size) or not all(extensions):
        raise CheckpointError("this is no checkpoint: not an origin, a size and a root")
    found = Checkpoint(origin, int(size), _decoded(root), tuple(extensions))
    if len(found.root) != 32 or f"{text}\n" != found.text() or not _TEXT.fullmatch(text):
        raise CheckpointError("this is no checkpoint: a root is 32 bytes in base64")
    return found


def check_name(name: str) -> None:
    """Demand a key name of signed-note: no blanks, no plus. Errors: `CheckpointError`."""
    if not name or "+" in name or any(sign.isspace() for sign in name):
        raise CheckpointError(f"a key's name has no blanks and no plus: {name!r}")


def _decoded(coded: str) -> bytes:
    try:
        return base64.b64decode(coded, validate=True)
    except ValueError:
        raise CheckpointError("a root or signature is not in base64") from None


def key_id(name: str, kind: bytes, public_key: bytes) -> bytes:
    """The four bytes by which a signature line names its key."""
    return hashlib.sha256(name.encode() + b"\n" + kind + public_key).digest()[:4]


def verifier_key(name: str, kind: bytes, public_key: bytes) -> str:
    """A public key as other verifiers take it: name, key id and key with its kind (C2SP vkey)."""
    coded = base64.b64encode(kind + public_key).decode()
    return f"{name}+{key_id(name, kind, public_key).hex()}+{coded}"


def signature_line(name: str, kind: bytes, public_key: bytes, signature: bytes) -> str:
    """One signature line, without newline."""
    coded = base64.b64encode(key_id(name, kind, public_key) + signature).decode()
    return f"— {name} {coded}"


def signatures(note: str) -> list[tuple[str, bytes, bytes]]:
    """Name, key id and signature of each signature line. Errors: `CheckpointError`."""
    found: list[tuple[str, bytes, bytes]] = []
    for line in note.rpartition("\n\n")[2].removesuffix("\n").split("\n"):
        dash, _, rest = line.partition(" ")
        name, _, coded = rest.rpartition(" ")
        raw = _decoded(coded)
        if dash != "—" or len(raw) < 5:
            raise CheckpointError("a signature line is '— name base64'")
        check_name(name)
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
    name, identity, stamped = signatures(f"\n\n{line}\n")[0]
    if (name, identity) != (witness, key_id(witness, COSIGNATURE_V1, public_key)):
        raise CheckpointError(f"the line is not of {witness} with the known key")
    timestamp = int.from_bytes(stamped[:8], "big")
    if len(stamped) != 8 + 64 or not timestamp:
        raise CheckpointError("a cosignature is a time and 64 bytes")
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
    """Signs the heads of the ledgers of this process and stores the notes.

    It signs only what continues the last checkpoint that it signed: whoever rewrites the tables
    without holding the key does not get a signature either.
    """

    def __init__(self, key: Ed25519PrivateKey, origin: str, interval_s: float = INTERVAL_S) -> None:
        check_name(origin)
        self._key = key
        self._origin = origin
        self.interval_s = interval_s
        self._signed: dict[str, Checkpoint] = {}

    @classmethod
    def from_environment(cls) -> Publisher:
        """With TALLYSTICK_LOG_KEY and TALLYSTICK_LOG_ORIGIN."""
        return cls(
            read_private_key("TALLYSTICK_LOG_KEY"), environment.read("TALLYSTICK_LOG_ORIGIN")
        )

    async def publish(self, connect: Callable[[], Awaitable[Any]], ledger: str) -> int | None:
        """Publish where the ledger stands, if it moved; gives the checkpoint's size.

        Called at the interval, and by whoever closes a period, right after the commit that closes
        it. Errors: `ProofError`, `CheckpointError`: the tree does not continue what was signed.
        TimeoutError while another publishes.
        """
        connection = await connect()
        try:
            # One at a time, or the smaller of two may be stored last, behind what a witness signed.
            # Until this connection ends, and before the snapshot, so that it shows the one before.
            await connection.execute(_TURN, ledger, timeout=TURN_S)
            async with connection.transaction(isolation="repeatable_read"):
                head = await connection.fetchrow(
                    "select seq, root from ledger.head where ledger = $1", ledger
                )
                before = await self._last(connection, ledger)
                if head is None or not head["seq"] or (before and before.size == head["seq"]):
                    return None
                new = Checkpoint(f"{self._origin}/{ledger}", head["seq"], head["root"])
                if before is not None:
                    await _demand_continuation(connection, ledger, before, new)
                await connection.execute(
                    "insert into ledger.checkpoint (ledger, size, root, note) "
                    "values ($1, $2, $3, $4) on conflict do nothing",
                    *(ledger, new.size, new.root, sign(new, self._key)),
                )
            self._signed[ledger] = new
            return new.size
        finally:
            connection.terminate()

    async def _last(self, connection: Any, ledger: str) -> Checkpoint | None:
        """What was signed last: by this process, or else what stands in the table."""
        if ledger not in self._signed:
            note = await connection.fetchval(
                "select note from ledger.checkpoint where ledger = $1 order by size desc limit 1",
                ledger,
            )
            if note is None:
                return None
            self._signed[ledger] = verify(note, public_bytes(self._key))
        return self._signed[ledger]


async def _demand_continuation(
    connection: Any, ledger: str, before: Checkpoint, new: Checkpoint
) -> None:
    if before.size > new.size:
        raise CheckpointError(f"the tree has shrunk from {before.size} to {new.size} events")
    proof = await proofs.consistency(connection, ledger, before.size, new.size)
    proofs.check_consistency(before.size, new.size, before.root, new.root, proof)


def now() -> int:
    """Unix seconds."""
    return int(time.time())
