"""The events: what the journal holds, what Kafka carries, byte for byte.

Each event is one JSON object, the envelope's fields first. `encode` gives the canonical bytes: they
are hashed, stored and published, and never encoded again. Amounts are strings of minor units.
Times are RFC 3339 in UTC with six places and a Z, so that they sort as text.

A ledger's events have one gapless `seq` from 1. A transaction is named by the `seq` of its event.
A field that is at its default is left out; which default that is belongs to the contract.
The streams beside the journals (parties, statements, alert decisions) use the same envelope with
`stream` in the place of `ledger`.
"""

from __future__ import annotations

import datetime as dt
from typing import Literal

import msgspec

from ledger_service.contract.context import Context
from ledger_service.contract.rules import Applied, DayCount, Part, Rounding, Tier, Tiering

SCHEMA_VERSION = 1
EVENT_MAX_BYTES = 60 * 1024
"""Kafka's and the tile format's limits leave room above this."""

Side = Literal["debit", "credit"]
AccountClass = Literal["asset", "liability", "equity", "income", "expense"]
AccountStatus = Literal["open", "debits_frozen", "credits_frozen", "frozen", "closed"]


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One line of a transaction. `amount` is positive; the side gives the direction."""

    account: str
    side: Side
    amount: str
    currency: str


class Rate(msgspec.Struct, frozen=True):
    """For one major unit of `sell`, `numerator`/`denominator` major units of `buy`; digits as text."""

    sell: str
    buy: str
    numerator: str
    denominator: str


class _Event(msgspec.Struct, frozen=True, tag_field="type", kw_only=True, omit_defaults=True):
    v: int = msgspec.field(default_factory=lambda: SCHEMA_VERSION)
    """By a factory, so that it is never left out as a default is."""
    ledger: str
    seq: int
    recorded_at: str
    actor: str
    """Who: a key's or user's id, never a name."""
    request_id: str | None = None
    """A UUID that ties the event to the request's log lines."""


class LedgerOpened(_Event, frozen=True, tag="ledger.opened", kw_only=True):
    """A set of books begins."""

    currencies: list[str]
    time_zone: str
    cut_off: str
    """Local wall time HH:MM at which the business day ends."""
    calendar: str
    chart: str
    """Name and version of the chart of accounts, e.g. `us_fintech_fbo/1`."""


class AccountOpened(_Event, frozen=True, tag="account.opened", kw_only=True):
    """An account exists from here on, with balance zero."""

    account: str
    currency: str
    account_class: AccountClass
    normal_side: Side
    custodial: bool
    """Customers' money (true) or our own; never mixed in a roll-up."""
    gl_code: str
    owner: str | None = None
    """Opaque party id."""
    floor: str | None = None
    """Lowest balance on the normal side, minor units as text, may be negative; None is unlimited."""
    ceiling: str | None = None


class AccountChanged(_Event, frozen=True, tag="account.changed", kw_only=True):
    """An account was frozen, thawed or closed."""

    account: str
    status: AccountStatus
    reason: str
    """A code, e.g. `compliance_hold`, `customer_request`."""


class TransactionPosted(_Event, frozen=True, tag="transaction.posted", kw_only=True):
    """Money moved: entries balance per currency (P1)."""

    kind: str
    """From the catalogue, e.g. `payroll`, `card_purchase`, `ach_credit`, `reversal`."""
    effective_at: str
    """When it counts, RFC 3339 UTC."""
    effective_date: str
    """The day of `effective_at` in the ledger's time zone."""
    business_date: str
    """The banking day it belongs to: past the cut-off or on a holiday, the next one."""
    entries: list[Entry]
    context: Context
    metadata: dict[str, str] = {}
    idempotency_digest: str
    """SHA-256 of ledger and key: the key itself may hold anything and is never kept."""
    value_date: str | None = None
    """The day for which the outside world imposed this, where the books of that day are closed: it
    counts from the first open day, `effective_at`."""
    rate: Rate | None = None
    """At which one currency was exchanged for the other."""
    captures: int | None = None
    """`seq` of the hold from which this takes its amounts."""
    ends_hold: bool = False
    """What the capture leaves of the hold is released with it."""
    corrects: int | None = None
    """`seq` of the transaction whose booking this corrects; the original stays as it is (P5)."""
    reverses: int | None = None
    """`seq` of the transaction that this one reverses, wholly or in part."""
    imposed: bool = False
    """The outside world's doing (return, chargeback, bank fee): never refused (P4)."""
    batch: str | None = None
    """Common id of the transactions of one linked batch."""
    approval: str | None = None
    """Id of the approval row that this transaction consumed (P12)."""
    applied: Applied | None = None
    """The posting rule that gave its amounts."""


class HoldPlaced(_Event, frozen=True, tag="hold.placed", kw_only=True):
    """Money is set aside: pending on every account of its entries, posted on none.

    What is pending on the side that lowers a balance is no longer available; what is pending on the
    other side is not available yet.
    """

    kind: str
    """From the catalogue: that of the transactions which capture it."""
    entries: list[Entry]
    """What a capture in full will post."""
    context: Context
    metadata: dict[str, str] = {}
    idempotency_digest: str
    expires_at: str | None = None
    """From this moment on it can't be captured, RFC 3339 UTC; None: it never expires."""
    batch: str | None = None


class HoldReleased(_Event, frozen=True, tag="hold.released", kw_only=True):
    """What was left of a hold is available again."""

    hold: int
    """`seq` of the hold."""
    cause: Literal["voided", "expired"]
    reason: str | None = None
    """A code, for what was voided."""
    entries: list[Entry]
    """What had been left."""
    idempotency_digest: str | None = None
    """None where the server's clock released it."""
    batch: str | None = None


class TrialLine(msgspec.Struct, frozen=True):
    """One line of a trial balance: sums of minor units as text."""

    gl_code: str
    account_class: AccountClass
    custodial: bool
    currency: str
    debits: str
    credits: str


class PeriodSoftClosed(_Event, frozen=True, tag="period.soft_closed", kw_only=True):
    """Up to this day, only corrections with a second person's approval are taken."""

    through: str
    """The last day, as `effective_date` counts it."""


class PeriodClosed(_Event, frozen=True, tag="period.closed", kw_only=True):
    """Up to this day, nothing is taken any more (P9)."""

    through: str
    trial_balance: list[TrialLine]
    """Of all that counts up to that day."""
    tree_size: int
    """Events before this one."""
    tree_root: str
    """Their Merkle root (RFC 6962), in hex."""
    checks: list[str]
    """Names of the checks that were made, and passed, in the commit of this event."""


class PeriodReopened(_Event, frozen=True, tag="period.reopened", kw_only=True):
    """From this day on corrections are taken again, as in a soft-closed period."""

    since: str
    reason: str
    approval: str
    """Id of the approval row that this consumed: reopening takes two people (P12)."""


class DayAttested(_Event, frozen=True, tag="day.attested", kw_only=True):
    """A day was attested (reconciled with the bank): it takes no more entries (P9)."""

    day: str
    reference: str
    """What attests it, e.g. the id of a statement."""


class CurrencyDeclared(_Event, frozen=True, tag="currency.declared", kw_only=True):
    """The ledger keeps a currency of its own from here on."""

    currency: str
    """Four or more signs, so never one of ISO 4217."""
    exponent: int
    """Decimal places of its minor unit, 0 to 9."""


class RuleDeclared(_Event, frozen=True, tag="rule.declared", kw_only=True):
    """How a fee or interest is worked out from a day on: an auditor needs nothing else.

    A later version takes the place of the ones before from its own first day on.
    """

    rule: str
    version: int
    """1, 2, 3 ... of this rule."""
    since: str
    """The first day on which it is in force."""
    kind: Literal["fee", "interest"]
    currency: str
    tiers: list[Tier]
    """Ascending. Below the first one nothing is due."""
    tiering: Tiering = "graduated"
    minimum: str | None = None
    """Of a fee, minor units."""
    maximum: str | None = None
    rounding: Rounding = "half_even"
    day_count: DayCount | None = None
    balances: Literal["positive", "negative"] = "positive"
    """Which balances bear interest: those on the account's normal side, or those on the other."""
    debit: list[Part]
    """Each side is split by largest remainder, ties to the first."""
    credit: list[Part]
    approval: str | None = None
    """Id of the approval row that this consumed (P12); None in what is older than decision 16."""


class RuleWithdrawn(_Event, frozen=True, tag="rule.withdrawn", kw_only=True):
    """From a day on, a posting rule is in force no more."""

    rule: str
    version: int
    since: str
    approval: str | None = None


JournalEvent = (
    LedgerOpened
    | AccountOpened
    | AccountChanged
    | TransactionPosted
    | HoldPlaced
    | HoldReleased
    | PeriodSoftClosed
    | PeriodClosed
    | PeriodReopened
    | DayAttested
    | CurrencyDeclared
    | RuleDeclared
    | RuleWithdrawn
)


class _StreamEvent(msgspec.Struct, frozen=True, tag_field="type", kw_only=True):
    v: int = SCHEMA_VERSION
    stream: str
    seq: int
    recorded_at: str


class PartyRegistered(_StreamEvent, frozen=True, tag="party.registered", kw_only=True):
    """What others may know of a party: nothing personal. A later version replaces an earlier one."""

    party: str
    kind: Literal["person", "business"]
    country: str
    risk_tier: Literal["low", "medium", "high"]
    version: int
    erased: bool = False


class StatementAccountRegistered(
    _StreamEvent, frozen=True, tag="statement_account.registered", kw_only=True
):
    """A partner's account whose statements are compared with one ledger account."""

    statement_account: str
    """Token of the bank's account number."""
    ledger: str
    account: str
    bank: str
    purpose: Literal["fbo", "operating", "stated_balance"]
    """`stated_balance`: a source that states a balance for an account, without lines."""
    rounded_half_minor_per_entry: int = 0
    """1 where the ledger's amounts were rounded from a finer source: each entry may then differ by
    half a minor unit. 0 demands equality."""


class StatementReceived(_StreamEvent, frozen=True, tag="statement.received", kw_only=True):
    """One day of one bank account, as the bank states it."""

    statement: str
    """Id of the statement in the vault's file store."""
    statement_account: str
    bank: str
    statement_date: str
    currency: str
    opening_balance: str | None
    """Signed minor units as text; from our side: what the bank owes us is positive."""
    closing_balance: str
    line_count: int
    format: Literal["bai2", "camt.053"]


class StatementLine(_StreamEvent, frozen=True, tag="statement.line", kw_only=True):
    """One movement on a bank statement; names and account numbers stay in the vault."""

    statement: str
    statement_account: str
    line_no: int
    statement_date: str
    value_date: str
    side: Literal["credit", "debit"]
    """The bank's view of our account: credit is money in."""
    amount: str
    currency: str
    reference: str | None
    bank_code: str
    """BAI type code or ISO bank transaction code."""


class AlertDecided(_StreamEvent, frozen=True, tag="alert.decided", kw_only=True):
    """Compliance decided on an alert."""

    alert: str
    rule: str
    decision: Literal["closed", "escalated", "reopened"]
    reason: str
    actor: str


StreamEvent = (
    PartyRegistered | StatementAccountRegistered | StatementReceived | StatementLine | AlertDecided
)

_ENCODER = msgspec.json.Encoder(order="deterministic")
_JOURNAL_DECODER = msgspec.json.Decoder(JournalEvent)
_STREAM_DECODER = msgspec.json.Decoder(StreamEvent)


def encode(event: JournalEvent | StreamEvent) -> bytes:
    """The canonical bytes: fields in the order of definition, type first, keys of maps sorted."""
    return _ENCODER.encode(event)


def decode_journal(raw: bytes) -> JournalEvent:
    """A journal event from its bytes. Errors: `msgspec.ValidationError`, `msgspec.DecodeError`."""
    return _JOURNAL_DECODER.decode(raw)


def decode_stream(raw: bytes) -> StreamEvent:
    """An event of one of the other streams. Errors as `decode_journal`."""
    return _STREAM_DECODER.decode(raw)


def event_type(event: JournalEvent | StreamEvent) -> str:
    """The event's `type`, e.g. `transaction.posted`."""
    return str(event.__struct_config__.tag)


def timestamp(moment: dt.datetime) -> str:
    """RFC 3339 in UTC with six places and Z. `moment` must carry a time zone."""
    if moment.tzinfo is None:
        raise ValueError("a time without a time zone is not a moment")
    # isoformat: strftime takes ten times as long, and this is on the path of every event.
    return moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
