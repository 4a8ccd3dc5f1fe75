"""The commands: what a caller may ask of a ledger. They travel to the writer as msgpack arrays.

A caller's idempotency key never travels: its digest does, and a hash of the content, by which the
same request is told from another one under the same key.
"""

from __future__ import annotations

import msgspec

from ledger_service.contract.events import AccountStatus, Context, Entry, Rate
from ledger_service.domain.approval import (
    Content,
    approval_digest,
    correction_content,
    declaration_content,
    reopening_content,
    reversal_content,
    withdrawal_content,
)
from ledger_service.domain.idempotency import Sha256, content_hash, key_digest
from ledger_service.domain.period_commands import OfPeriod, ReopenPeriod
from ledger_service.domain.rule_commands import (
    AccrueInterest,
    CapitalizeInterest,
    ChargeFee,
    DeclareRule,
    Declaring,
    OfRule,
    WithdrawRule,
)


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
    dry_run: bool = False
    """Of any command: decide and answer, but change nothing."""


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
    dry_run: bool = False


class ChangeAccount(msgspec.Struct, frozen=True, array_like=True, tag="change_account"):
    """Freeze, thaw or close an account. Repeating the last status changes nothing."""

    account: str
    status: AccountStatus
    reason: str
    actor: str
    request_id: str | None = None
    dry_run: bool = False


class PostTransaction(msgspec.Struct, frozen=True, array_like=True, tag="post", gc=False):
    """Move money. `digest` is `key_digest`, `request_hash` the `content_hash` of the rest."""

    digest: Sha256
    request_hash: Sha256
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
    corrects: int | None = None
    """`seq` of the transaction whose booking this corrects; it then consumes `approval`."""
    approval: str | None = None
    rate: Rate | None = None


class ReverseTransaction(msgspec.Struct, frozen=True, array_like=True, tag="reverse"):
    """Undo a transaction, wholly or in part, by swapped entries; consumes an approval."""

    digest: Sha256
    request_hash: Sha256
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
    dry_run: bool = False


class PlaceHold(msgspec.Struct, frozen=True, array_like=True, tag="place_hold", gc=False):
    """Set money aside until it is captured, voided, or `expires_at`."""

    digest: Sha256
    request_hash: Sha256
    kind: str
    entries: list[Entry]
    actor: str
    expires_at: str | None = None
    """RFC 3339; None: it never expires."""
    context: Context = Context()
    metadata: dict[str, str] = {}
    request_id: str | None = None
    dry_run: bool = False


class CaptureHold(msgspec.Struct, frozen=True, array_like=True, tag="capture_hold", gc=False):
    """Post what was set aside, wholly or in part."""

    digest: Sha256
    request_hash: Sha256
    hold: int
    actor: str
    amount: str | None = None
    """Minor units of the debit side; None: all that is left."""
    ends_hold: bool = True
    """Release what a part leaves; False: keep it for further captures."""
    effective_at: str | None = None
    context: Context | None = None
    """None: that of the hold."""
    metadata: dict[str, str] = {}
    request_id: str | None = None
    dry_run: bool = False


class VoidHold(msgspec.Struct, frozen=True, array_like=True, tag="void_hold", gc=False):
    """Release what is left of a hold."""

    digest: Sha256
    request_hash: Sha256
    hold: int
    reason: str
    actor: str
    request_id: str | None = None
    dry_run: bool = False


class ExpireHold(msgspec.Struct, frozen=True, array_like=True, tag="expire_hold"):
    """Release what is left of a hold whose time is over; the writer's own clock asks for it."""

    hold: int
    actor: str
    request_id: str | None = None


Keyed = PostTransaction | ReverseTransaction | PlaceHold | CaptureHold | VoidHold | OfRule
"""Commands that move money, each under an idempotency key of the caller."""
KEYED = (
    PostTransaction,
    ReverseTransaction,
    PlaceHold,
    CaptureHold,
    VoidHold,
    ChargeFee,
    AccrueInterest,
    CapitalizeInterest,
)
"""The same as a tuple, which `isinstance` takes several times as fast as a union."""
Command = OpenLedger | OpenAccount | ChangeAccount | Keyed | ExpireHold | OfPeriod | Declaring
decode_command = msgspec.msgpack.Decoder(Command).decode
"""A command from its msgpack. Errors: msgspec.ValidationError, msgspec.DecodeError."""


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
    corrects: int | None = None,
    approval: str | None = None,
    rate: Rate | None = None,
) -> PostTransaction:
    """A PostTransaction under the caller's own idempotency key."""
    metadata = metadata or {}
    content = (kind, entries, effective_at, context, metadata, imposed, corrects, rate)
    return PostTransaction(
        key_digest(ledger, key),
        content_hash(content),
        kind,
        entries,
        actor,
        effective_at,
        context,
        metadata,
        imposed,
        request_id,
        dry_run,
        corrects,
        approval,
        rate,
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
    dry_run: bool = False,
) -> ReverseTransaction:
    """A ReverseTransaction under the caller's own idempotency key."""
    content = (reverses, approval, amount, reason, reversal)
    return ReverseTransaction(
        key_digest(ledger, key),
        content_hash(content),
        reverses,
        approval,
        actor,
        amount,
        reason,
        reversal,
        request_id,
        dry_run,
    )


def place_hold(
    ledger: str,
    key: str,
    *,
    kind: str,
    entries: list[Entry],
    actor: str,
    expires_at: str | None = None,
    context: Context = Context(),  # noqa: B008 - frozen
    metadata: dict[str, str] | None = None,
    request_id: str | None = None,
    dry_run: bool = False,
) -> PlaceHold:
    """A PlaceHold under the caller's own idempotency key."""
    metadata = metadata or {}
    hashed = content_hash((kind, entries, expires_at, context, metadata))
    return PlaceHold(
        key_digest(ledger, key),
        hashed,
        kind,
        entries,
        actor,
        expires_at,
        context,
        metadata,
        request_id,
        dry_run,
    )


def capture_hold(
    ledger: str,
    key: str,
    *,
    hold: int,
    actor: str,
    amount: str | None = None,
    ends_hold: bool = True,
    effective_at: str | None = None,
    context: Context | None = None,
    metadata: dict[str, str] | None = None,
    request_id: str | None = None,
    dry_run: bool = False,
) -> CaptureHold:
    """A CaptureHold under the caller's own idempotency key."""
    metadata = metadata or {}
    hashed = content_hash((hold, amount, ends_hold, effective_at, context, metadata))
    return CaptureHold(
        key_digest(ledger, key),
        hashed,
        hold,
        actor,
        amount,
        ends_hold,
        effective_at,
        context,
        metadata,
        request_id,
        dry_run,
    )


def void_hold(
    ledger: str,
    key: str,
    *,
    hold: int,
    reason: str,
    actor: str,
    request_id: str | None = None,
    dry_run: bool = False,
) -> VoidHold:
    """A VoidHold under the caller's own idempotency key."""
    hashed = content_hash((hold, reason))
    return VoidHold(key_digest(ledger, key), hashed, hold, reason, actor, request_id, dry_run)


ByTwo = PostTransaction | ReverseTransaction | ReopenPeriod | DeclareRule | WithdrawRule
"""Commands that consume an approval; of posting a transaction, corrections do."""


def _correction_of(ledger: str, command: PostTransaction, corrects: int) -> Content:
    words = [f"{one.account} {one.side} {one.amount} {one.currency}" for one in command.entries]
    return correction_content(
        ledger=ledger,
        corrects=corrects,
        kind=command.kind,
        effective_at=command.effective_at or "",
        entries="; ".join(words),
        content=command.request_hash.hex(),
    )


def approved_content(ledger: str, command: ByTwo) -> Content | None:
    """What a second person approves before a command is carried out (P12); None: it takes one alone."""
    if isinstance(command, ReverseTransaction):
        return reversal_content(
            ledger=ledger,
            transaction=command.reverses,
            amount=command.amount,
            reason=command.reason,
            reversal=command.reversal,
        )
    if isinstance(command, ReopenPeriod):
        return reopening_content(ledger=ledger, since=command.since, reason=command.reason)
    if isinstance(command, DeclareRule):
        return declaration_content(ledger, command)
    if isinstance(command, WithdrawRule):
        return withdrawal_content(ledger, command)
    if command.corrects is not None:
        return _correction_of(ledger, command, command.corrects)
    return None


def approval_of(ledger: str, command: Command) -> tuple[str, str] | None:
    """Id of the approval that a command consumes, and digest of what it must approve (P12)."""
    if not isinstance(command, ByTwo):
        return None
    content = approved_content(ledger, command)
    return None if content is None else (command.approval or "", approval_digest(content))
