"""Bodies of the routes that move money: decoded by msgspec, straight into the ledger's own types.

Strict: an unknown field, a missing one and a wrong type are refused by the field's name. The value
is never repeated, it may be personal.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Annotated, TypeVar

import msgspec
from starlette.requests import Request

from ledger_service.api.problems import Problem
from ledger_service.contract.events import AccountStatus, Context, Entry, Rate
from ledger_service.contract.identifiers import looks_personal
from ledger_service.domain.commands import (
    CaptureHold,
    OpenAccount,
    OpenLedger,
    PlaceHold,
    PostTransaction,
    ReverseTransaction,
    VoidHold,
    capture_hold,
    place_hold,
    post_transaction,
    reverse_transaction,
    void_hold,
)
from ledger_service.domain.errors import REFUSALS
from ledger_service.engine.reads import LAST_SEQ

try:
    from ledger_service.api.plain_bodies import PlainBodies
except ImportError:  # no C compiler was there at installation
    PlainBodies = None

KEY_MAX_LENGTH = 255
_CODES_OF_FIELDS = {
    "amount": "bad_amount",
    "side": "bad_side",
    "channel": "bad_context",
    "status": "bad_status",
    "exponent": "bad_currency",
}
_FIELD = re.compile(r"`\$([^`]*)`\Z")

Seq = Annotated[int, msgspec.Meta(ge=1, le=LAST_SEQ)]
"""Of an event that a body names."""


class EntryBody(Entry, frozen=True, forbid_unknown_fields=True):
    """An entry as a caller writes it."""


class ContextBody(Context, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A context as a caller writes it."""


class RateBody(Rate, frozen=True, forbid_unknown_fields=True):
    """A rate as a caller writes it."""


class TransactionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A transaction to post."""

    idempotency_key: str
    kind: str
    entries: list[EntryBody]
    effective_at: str | None = None
    context: ContextBody = ContextBody()
    metadata: dict[str, str] = {}
    imposed: bool = False
    dry_run: bool = False
    corrects: Seq | None = None
    """`seq` of the transaction whose booking this corrects; `approval` was then granted for it."""
    approval: str | None = None
    rate: RateBody | None = None
    """Where one currency is exchanged for another."""

    def command(self, ledger: str, actor: str, request_id: str) -> PostTransaction:
        """The command it stands for. Errors: `Problem` for a key that is empty or too long."""
        return post_transaction(
            ledger,
            checked_key(self.idempotency_key),
            kind=self.kind,
            entries=self.entries,  # type: ignore[arg-type]
            actor=actor,
            effective_at=self.effective_at,
            context=self.context,
            metadata=self.metadata,
            imposed=self.imposed,
            request_id=request_id,
            dry_run=self.dry_run,
            corrects=self.corrects,
            approval=self.approval,
            rate=self.rate,
        )


class HoldBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Money to set aside."""

    idempotency_key: str
    kind: str
    entries: list[EntryBody]
    expires_at: str | None = None
    context: ContextBody = ContextBody()
    metadata: dict[str, str] = {}
    dry_run: bool = False

    def command(self, ledger: str, actor: str, request_id: str) -> PlaceHold:
        """The command it stands for."""
        return place_hold(
            ledger,
            checked_key(self.idempotency_key),
            kind=self.kind,
            entries=self.entries,  # type: ignore[arg-type]
            actor=actor,
            expires_at=self.expires_at,
            context=self.context,
            metadata=self.metadata,
            request_id=request_id,
            dry_run=self.dry_run,
        )


class CaptureBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to take from a hold."""

    idempotency_key: str
    amount: str | None = None
    """Minor units; left out: all that is left."""
    ends_hold: bool = True
    """Release what a part leaves; false: keep it for further captures."""
    effective_at: str | None = None
    context: ContextBody | None = None
    metadata: dict[str, str] = {}
    dry_run: bool = False

    def command(self, ledger: str, hold: int, actor: str, request_id: str) -> CaptureHold:
        """The command it stands for."""
        return capture_hold(
            ledger,
            checked_key(self.idempotency_key),
            hold=hold,
            actor=actor,
            amount=self.amount,
            ends_hold=self.ends_hold,
            effective_at=self.effective_at,
            context=self.context,
            metadata=self.metadata,
            request_id=request_id,
            dry_run=self.dry_run,
        )


class VoidBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a hold is given back."""

    idempotency_key: str
    reason: str
    dry_run: bool = False

    def command(self, ledger: str, hold: int, actor: str, request_id: str) -> VoidHold:
        """The command it stands for."""
        return void_hold(
            ledger,
            checked_key(self.idempotency_key),
            hold=hold,
            reason=self.reason,
            actor=actor,
            request_id=request_id,
            dry_run=self.dry_run,
        )


class DayBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last day of a period."""

    through: str
    dry_run: bool = False


class ReopeningBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From which day on a period is to be reopened, and why."""

    since: str
    reason: str
    approval: str | None = None
    """That of a second person; left out: ask for it. A dry run takes none."""
    dry_run: bool = False


class AttestationBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What attests a day, e.g. the id of a bank statement."""

    reference: str
    dry_run: bool = False


class TransactionsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Several transactions; each is decoded on its own, so that one bad item spoils no other."""

    transactions: list[msgspec.Raw]
    linked: bool = False
    dry_run: bool = False
    """Of them all, each as if those before it were done."""


class ReverseBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A reversal to execute, as it was approved."""

    idempotency_key: str
    reason: str
    approval: str = ""
    """Left out of a dry run, as is `reversal`."""
    reversal: str = ""
    amount: str | None = None
    dry_run: bool = False

    def command(self, ledger: str, seq: int, actor: str, request_id: str) -> ReverseTransaction:
        """The command it stands for."""
        return reverse_transaction(
            ledger,
            checked_key(self.idempotency_key),
            reverses=seq,
            approval=self.approval,
            actor=actor,
            amount=self.amount,
            reason=self.reason,
            reversal=self.reversal,
            request_id=request_id,
            dry_run=self.dry_run,
        )


class AccountBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An account to open."""

    account: str
    currency: str
    owner: str | None = None
    floor: str | None = None
    ceiling: str | None = None
    dry_run: bool = False

    def command(self, actor: str, request_id: str) -> OpenAccount:
        """The command it stands for."""
        return OpenAccount(actor=actor, request_id=request_id, **msgspec.structs.asdict(self))


class AccountsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Several accounts to open."""

    accounts: list[AccountBody]


class StatusBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new status of an account."""

    status: AccountStatus
    reason: str
    dry_run: bool = False


class LedgerBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ledger to open."""

    ledger: str
    currencies: list[str]
    time_zone: str
    cut_off: str
    calendar: str
    chart: str
    dry_run: bool = False

    def command(self, actor: str, request_id: str) -> OpenLedger:
        """The command it stands for."""
        return OpenLedger(actor=actor, request_id=request_id, **msgspec.structs.asdict(self))


Body = TypeVar("Body")
_NUL = rb"\u0000"


def decode(raw: bytes | msgspec.Raw, kind: type[Body]) -> Body:
    """A body from JSON. Errors: `Problem` that names the field."""
    if isinstance(raw, bytes) and _NUL in raw:
        # A database takes it in no text, so nothing can be looked up by it.
        raise Problem("bad_text")
    try:
        return _decoder(kind).decode(raw)
    except msgspec.ValidationError as error:
        raise _problem(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Problem("bad_json") from None


def transaction_reader(
    ledger: str, actor: str, request_id: str
) -> Callable[[bytes | msgspec.Raw], PostTransaction | msgspec.Raw]:
    """Reads transactions of a batch: each as a command, or as the message that one comes to. What is
    returned raises `Problem` as `decode` does."""
    plain = PlainBodies(ledger, actor, request_id) if PlainBodies else None

    def read_one(raw: bytes | msgspec.Raw) -> PostTransaction | msgspec.Raw:
        message = plain.read(raw) if plain else None
        if message is not None:
            return msgspec.Raw(message)
        return decode(raw, TransactionBody).command(ledger, actor, request_id)

    return read_one


async def read(request: Request, kind: type[Body]) -> Body:
    """The body of a request."""
    return decode(await request.body(), kind)


@functools.cache
def _decoder(kind: type[Body]) -> msgspec.json.Decoder[Body]:
    return msgspec.json.Decoder(kind)


def _problem(text: str) -> Problem:
    # What is expected is said in our own words and bounds.
    if not text.startswith("Expected") and looks_personal(text):
        return Problem("unknown_field", "A field's name looks personal; see /docs for the fields.")
    found = _FIELD.search(text)
    where = found[1].lstrip(".") if found else ""
    if "unknown field" in text:
        return Problem("unknown_field", text, where=where)
    code = _CODES_OF_FIELDS.get(where.rsplit(".", 1)[-1], "invalid_request")
    return Problem(code, REFUSALS.get(code) or text, where=where)


def checked_key(key: str) -> str:
    """An idempotency key of a length that can be meant. Errors: `Problem`."""
    if not 0 < len(key) <= KEY_MAX_LENGTH:
        raise Problem(
            "invalid_request", f"An idempotency_key has 1 to {KEY_MAX_LENGTH} characters."
        )
    return key
