"""The commands that declare currencies and posting rules, and that post by rules."""

from __future__ import annotations

from typing import Literal

import msgspec

from ledger_service.contract.rules import DayCount, Part, Rounding, Tier, Tiering
from ledger_service.domain.idempotency import Sha256, content_hash, key_digest


class DeclareCurrency(msgspec.Struct, frozen=True, array_like=True, tag="declare_currency"):
    """Keep a currency that is none of ISO 4217. Repeating it changes nothing."""

    currency: str
    exponent: int
    actor: str
    request_id: str | None = None
    dry_run: bool = False


class DeclareRule(msgspec.Struct, frozen=True, array_like=True, tag="declare_rule"):
    """Say how a fee or interest is worked out; the fields are those of `RuleDeclared`.

    Other terms for a known rule make its next version, which consumes an approval; repeating the
    last ones changes nothing.
    """

    rule: str
    since: str
    kind: Literal["fee", "interest"]
    currency: str
    tiers: list[Tier]
    debit: list[Part]
    credit: list[Part]
    actor: str
    tiering: Tiering = "graduated"
    minimum: str | None = None
    maximum: str | None = None
    rounding: Rounding = "half_even"
    day_count: DayCount | None = None
    balances: Literal["positive", "negative"] = "positive"
    request_id: str | None = None
    approval: str | None = None
    dry_run: bool = False


class WithdrawRule(msgspec.Struct, frozen=True, array_like=True, tag="withdraw_rule"):
    """Let a rule be in force no more from the day `since` on, which consumes an approval.

    Repeating it changes nothing.
    """

    rule: str
    since: str
    actor: str
    request_id: str | None = None
    approval: str | None = None
    dry_run: bool = False


class ChargeFee(msgspec.Struct, frozen=True, array_like=True, tag="charge"):
    """Post what a fee's rule asks of an amount, on an account."""

    digest: Sha256
    request_hash: Sha256
    rule: str
    account: str
    actor: str
    amount: str | None = None
    """Of what the fee is taken, minor units; None: of nothing, which leaves what is fixed."""
    effective_at: str | None = None
    metadata: dict[str, str] = {}
    request_id: str | None = None
    dry_run: bool = False


class AccrueInterest(msgspec.Struct, frozen=True, array_like=True, tag="accrue"):
    """Post an account's interest of all days up to `through` that are not accrued yet.

    It counts at the end of that day. A day is accrued once; what is backdated into it later is made
    up for by the next accrual.
    """

    digest: Sha256
    request_hash: Sha256
    rule: str
    account: str
    through: str
    actor: str
    since: str | None = None
    """No day before this one; None: none before the rule's first day."""
    request_id: str | None = None
    dry_run: bool = False


class CapitalizeInterest(msgspec.Struct, frozen=True, array_like=True, tag="capitalize"):
    """Move what has accrued, and is posted, to the account that bore it."""

    digest: Sha256
    request_hash: Sha256
    rule: str
    account: str
    actor: str
    effective_at: str | None = None
    request_id: str | None = None
    dry_run: bool = False


OfRule = ChargeFee | AccrueInterest | CapitalizeInterest
Declaring = DeclareCurrency | DeclareRule | WithdrawRule


def charge_fee(
    ledger: str,
    key: str,
    *,
    rule: str,
    account: str,
    actor: str,
    amount: str | None = None,
    effective_at: str | None = None,
    metadata: dict[str, str] | None = None,
    request_id: str | None = None,
    dry_run: bool = False,
) -> ChargeFee:
    """A ChargeFee under the caller's own idempotency key."""
    metadata = metadata or {}
    return ChargeFee(
        key_digest(ledger, key),
        content_hash(("charge", rule, account, amount, effective_at, metadata)),
        rule,
        account,
        actor,
        amount,
        effective_at,
        metadata,
        request_id,
        dry_run,
    )


def accrue_interest(
    ledger: str,
    key: str,
    *,
    rule: str,
    account: str,
    through: str,
    actor: str,
    since: str | None = None,
    request_id: str | None = None,
    dry_run: bool = False,
) -> AccrueInterest:
    """An AccrueInterest under the caller's own idempotency key."""
    return AccrueInterest(
        key_digest(ledger, key),
        content_hash(("accrue", rule, account, through, since)),
        rule,
        account,
        through,
        actor,
        since,
        request_id,
        dry_run,
    )


def capitalize_interest(
    ledger: str,
    key: str,
    *,
    rule: str,
    account: str,
    actor: str,
    effective_at: str | None = None,
    request_id: str | None = None,
    dry_run: bool = False,
) -> CapitalizeInterest:
    """A CapitalizeInterest under the caller's own idempotency key."""
    return CapitalizeInterest(
        key_digest(ledger, key),
        content_hash(("capitalize", rule, account, effective_at)),
        rule,
        account,
        actor,
        effective_at,
        request_id,
        dry_run,
    )
