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
from typing import Annotated, Literal

import msgspec

from ledger_service.contract import forms
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

    account: forms.Account
    side: Side
    amount: forms.Amount
    currency: forms.Currency


class Rate(msgspec.Struct, frozen=True):
    """For one major unit of `sell`, `numerator`/`denominator` major units of `buy`; digits as text."""

    sell: forms.Currency
    buy: forms.Currency
    numerator: forms.Digits
    denominator: forms.Digits


class _Event(msgspec.Struct, frozen=True, tag_field="type", kw_only=True, omit_defaults=True):
    v: int = msgspec.field(default_factory=lambda: SCHEMA_VERSION)
    """By a factory, so that it is never left out as a default is."""
    ledger: forms.Ledger
    seq: forms.Seq
    recorded_at: forms.Moment
    actor: str
    """Who: a key's or user's id, never a name."""
    request_id: forms.Uuid | None = None
    """A UUID that ties the event to the request's log lines."""


class LedgerOpened(_Event, frozen=True, tag="ledger.opened", kw_only=True):
    """A set of books begins."""

    currencies: list[forms.Currency]
    time_zone: str
    cut_off: forms.WallTime
    """Local wall time HH:MM at which the business day ends."""
    calendar: str
    chart: str
    """Name and version of the chart of accounts, e.g. `us_fintech_fbo/1`."""


class AccountOpened(_Event, frozen=True, tag="account.opened", kw_only=True):
    """An account exists from here on, with balance zero."""

    account: forms.Account
    currency: forms.Currency
    account_class: AccountClass
    normal_side: Side
    custodial: bool
    """Customers' money (true) or our own; never mixed in a roll-up."""
    gl_code: str
    owner: forms.Party | None = None
    """Opaque party id."""
    floor: forms.Signed | None = None
    """Lowest balance on the normal side, minor units as text, may be negative; None is unlimited."""
    ceiling: forms.Signed | None = None


class AccountChanged(_Event, frozen=True, tag="account.changed", kw_only=True):
    """An account was frozen, thawed or closed."""

    account: forms.Account
    status: AccountStatus
    reason: str
    """A code, e.g. `compliance_hold`, `customer_request`."""


class TransactionPosted(_Event, frozen=True, tag="transaction.posted", kw_only=True):
    """Money moved: entries balance per currency (P1)."""

    kind: str
    """From the catalogue, e.g. `payroll`, `card_purchase`, `ach_credit`, `reversal`."""
    effective_at: forms.Moment
    """When it counts."""
    effective_date: forms.Day
    """The day of `effective_at` in the ledger's time zone."""
    business_date: forms.Day
    """The banking day it belongs to: past the cut-off or on a holiday, the next one."""
    entries: list[Entry]
    context: Context
    metadata: dict[str, str] = {}
    idempotency_digest: forms.Digest
    """SHA-256 of ledger and key: the key itself may hold anything and is never kept."""
    value_date: forms.Day | None = None
    """The day for which the outside world imposed this, where the books of that day are closed: it
    counts from the first open day, `effective_at`."""
    rate: Rate | None = None
    """At which one currency was exchanged for the other."""
    captures: forms.Seq | None = None
    """`seq` of the hold from which this takes its amounts."""
    ends_hold: bool = False
    """What the capture leaves of the hold is released with it."""
    corrects: forms.Seq | None = None
    """`seq` of the transaction whose booking this corrects; the original stays as it is (P5)."""
    reverses: forms.Seq | None = None
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
    idempotency_digest: forms.Digest
    expires_at: forms.Moment | None = None
    """From this moment on it can't be captured; None: it never expires."""
    batch: str | None = None


class HoldReleased(_Event, frozen=True, tag="hold.released", kw_only=True):
    """What was left of a hold is available again."""

    hold: forms.Seq
    """`seq` of the hold."""
    cause: Literal["voided", "expired"]
    reason: str | None = None
    """A code, for what was voided."""
    entries: list[Entry]
    """What had been left."""
    idempotency_digest: forms.Digest | None = None
    """None where the server's clock released it."""
    batch: str | None = None


class TrialLine(msgspec.Struct, frozen=True):
    """One line of a trial balance: sums of minor units as text."""

    gl_code: str
    account_class: AccountClass
    custodial: bool
    currency: forms.Currency
    debits: forms.Sum
    credits: forms.Sum


class PeriodSoftClosed(_Event, frozen=True, tag="period.soft_closed", kw_only=True):
    """Up to this day, only corrections with a second person's approval are taken."""

    through: forms.Day
    """The last day, as `effective_date` counts it."""


class PeriodClosed(_Event, frozen=True, tag="period.closed", kw_only=True):
    """Up to this day, nothing is taken any more (P9)."""

    through: forms.Day
    trial_balance: list[TrialLine]
    """Of all that counts up to that day."""
    tree_size: forms.Count
    """Events before this one."""
    tree_root: forms.Digest
    """Their Merkle root (RFC 6962), in hex."""
    checks: list[str]
    """Names of the checks that were made, and passed, in the commit of this event."""


class PeriodReopened(_Event, frozen=True, tag="period.reopened", kw_only=True):
    """From this day on corrections are taken again, as in a soft-closed period."""

    since: forms.Day
    reason: str
    approval: str
    """Id of the approval row that this consumed: reopening takes two people (P12)."""


class DayAttested(_Event, frozen=True, tag="day.attested", kw_only=True):
    """A day was attested (reconciled with the bank): it takes no more entries (P9)."""

    day: forms.Day
    reference: str
    """What attests it, e.g. the id of a statement."""


class CurrencyDeclared(_Event, frozen=True, tag="currency.declared", kw_only=True):
    """The ledger keeps a currency of its own from here on."""

    currency: forms.OwnCurrency
    """Four or more signs, so never one of ISO 4217."""
    exponent: forms.Exponent
    """Decimal places of its minor unit, 0 to 9."""


class RuleDeclared(_Event, frozen=True, tag="rule.declared", kw_only=True):
    """How a fee or interest is worked out from a day on: an auditor needs nothing else.

    A later version takes the place of the ones before from its own first day on.
    """

    rule: str
    version: forms.Number
    """1, 2, 3 ... of this rule."""
    since: forms.Day
    """The first day on which it is in force."""
    kind: Literal["fee", "interest"]
    currency: forms.Currency
    tiers: list[Tier]
    """Ascending. Below the first one nothing is due."""
    tiering: Tiering = "graduated"
    minimum: forms.Signed | None = None
    """Of a fee, minor units."""
    maximum: forms.Signed | None = None
    rounding: Rounding = "half_even"
    day_count: Annotated[DayCount, forms.MAY_GROW] | None = None
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
    version: forms.Number
    since: forms.Day
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
    seq: forms.Seq
    recorded_at: forms.Moment


class PartyRegistered(_StreamEvent, frozen=True, tag="party.registered", kw_only=True):
    """What others may know of a party: nothing personal. A later version replaces an earlier one."""

    party: forms.Party
    kind: Literal["person", "business"]
    country: forms.Country
    risk_tier: Literal["low", "medium", "high"]
    version: forms.Number
    erased: bool = False


class StatementAccountRegistered(
    _StreamEvent, frozen=True, tag="statement_account.registered", kw_only=True
):
    """A partner's account whose statements are compared with one ledger account."""

    statement_account: str
    """Token of the bank's account number."""
    ledger: forms.Ledger
    account: forms.Account
    bank: str
    purpose: Annotated[Literal["fbo", "operating", "stated_balance"], forms.MAY_GROW]
    """`stated_balance`: a source that states a balance for an account, without lines."""
    rounded_half_minor_per_entry: forms.NoneOrOne = 0
    """1 where the ledger's amounts were rounded from a finer source: each entry may then differ by
    half a minor unit. 0 demands equality."""


class StatementReceived(_StreamEvent, frozen=True, tag="statement.received", kw_only=True):
    """One day of one bank account, as the bank states it."""

    statement: str
    """Id of the statement in the vault's file store."""
    statement_account: str
    bank: str
    statement_date: forms.Day
    currency: forms.Currency
    opening_balance: forms.Signed | None
    """Signed minor units as text; from our side: what the bank owes us is positive."""
    closing_balance: forms.Signed
    line_count: forms.Count
    format: Annotated[Literal["bai2", "camt.053"], forms.MAY_GROW]


class StatementLine(_StreamEvent, frozen=True, tag="statement.line", kw_only=True):
    """One movement on a bank statement; names and account numbers stay in the vault."""

    statement: str
    statement_account: str
    line_no: forms.Number
    statement_date: forms.Day
    value_date: forms.Day
    side: Literal["credit", "debit"]
    """The bank's view of our account: credit is money in."""
    amount: forms.Amount
    currency: forms.Currency
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


def event_type(event: JournalEvent | StreamEvent | type[msgspec.Struct]) -> str:
    """The `type` of an event, or of all events of a class, e.g. `transaction.posted`."""
    return str(event.__struct_config__.tag)


def timestamp(moment: dt.datetime) -> str:
    """RFC 3339 in UTC with six places and Z. `moment` must carry a time zone."""
    if moment.tzinfo is None:
        raise ValueError("a time without a time zone is not a moment")
    # isoformat: strftime takes ten times as long, and this is on the path of every event.
    return moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
