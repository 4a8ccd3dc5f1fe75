"""The commands: what a caller may ask of a ledger. They travel to the writer as msgpack arrays.

A caller's idempotency key never travels: its digest does, and a hash of the content, by which the
same request is told from another one under the same key.
"""

from __future__ import annotations

import hashlib

import msgspec

from ledger_service.contract.events import AccountStatus, Context, Entry
from ledger_service.domain.approval import approval_digest, reversal_content


class OpenLedger(msgspec.Struct, frozen=True, array_like=True, tag="open_ledger"):
    """Begin a set of books. Repeating it with the same content changes nothing."""

    ledger: str
    currencies: list[str]
    time_zone: str
    cut_off: str
    calendar: str
    chart: str
    actor: str
    request_id: str | None = None


class OpenAccount(msgspec.Struct, frozen=True, array_like=True, tag="open_account"):
    """Open an account; class and side come from the chart. Repeating it changes nothing."""

    account: str
    currency: str
    actor: str
    owner: str | None = None
    floor: str | None = None
    """Lowest balance on the normal side, minor units as text; None is unlimited."""
    ceiling: str | None = None
    request_id: str | None = None


class ChangeAccount(msgspec.Struct, frozen=True, array_like=True, tag="change_account"):
    """Freeze, thaw or close an account. Repeating the last status changes nothing."""

    account: str
    status: AccountStatus
    reason: str
    actor: str
    request_id: str | None = None


class PostTransaction(msgspec.Struct, frozen=True, array_like=True, tag="post"):
    """Move money. `digest` is `key_digest`, `request_hash` the `content_hash` of the rest."""

    digest: bytes
    request_hash: bytes
    kind: str
    entries: list[Entry]
    actor: str
    effective_at: str | None = None
    """RFC 3339; None: when it is decided."""
    context: Context = Context()
    metadata: dict[str, str] = {}
    imposed: bool = False
    request_id: str | None = None
    dry_run: bool = False
    """Decide and answer, but post nothing."""


class ReverseTransaction(msgspec.Struct, frozen=True, array_like=True, tag="reverse"):
    """Undo a transaction, wholly or in part, by swapped entries; consumes an approval."""

    digest: bytes
    request_hash: bytes
    reverses: int
    approval: str
    actor: str
    amount: str | None = None
    """Minor units of the debit side; None: all that is left."""
    reason: str = ""
    """Code of the reversal policy, part of what was approved."""
    reversal: str = ""
    """Id of the request (`payments.reversal`), part of what was approved."""
    request_id: str | None = None


Command = OpenLedger | OpenAccount | ChangeAccount | PostTransaction | ReverseTransaction

_CANONICAL = msgspec.msgpack.Encoder(order="sorted")


def key_digest(ledger: str, key: str) -> bytes:
    """SHA-256 that stands for an idempotency key of a ledger: 32 bytes."""
    return hashlib.sha256(f"{ledger}\0{key}".encode()).digest()


def post_transaction(
    ledger: str,
    key: str,
    *,
    kind: str,
    entries: list[Entry],
    actor: str,
    effective_at: str | None = None,
    context: Context = Context(),  # noqa: B008 - frozen
    metadata: dict[str, str] | None = None,
    imposed: bool = False,
    request_id: str | None = None,
    dry_run: bool = False,
) -> PostTransaction:
    """A PostTransaction under the caller's own idempotency key."""
    metadata = metadata or {}
    content = (kind, entries, effective_at, context, metadata, imposed)
    return PostTransaction(
        key_digest(ledger, key),
        hashlib.sha256(_CANONICAL.encode(content)).digest(),
        kind,
        entries,
        actor,
        effective_at,
        context,
        metadata,
        imposed,
        request_id,
        dry_run,
    )


def reverse_transaction(
    ledger: str,
    key: str,
    *,
    reverses: int,
    approval: str,
    actor: str,
    amount: str | None = None,
    reason: str,
    reversal: str,
    request_id: str | None = None,
) -> ReverseTransaction:
    """A ReverseTransaction under the caller's own idempotency key."""
    content = _CANONICAL.encode((reverses, approval, amount, reason, reversal))
    return ReverseTransaction(
        key_digest(ledger, key),
        hashlib.sha256(content).digest(),
        reverses,
        approval,
        actor,
        amount,
        reason,
        reversal,
        request_id,
    )


def reversal_digest(ledger: str, command: ReverseTransaction) -> str:
    """Digest of what a second person must have approved for `command` to be carried out (P12)."""
    return approval_digest(
        reversal_content(
            ledger=ledger,
            transaction=command.reverses,
            amount=command.amount,
            reason=command.reason,
            reversal=command.reversal,
        )
    )
