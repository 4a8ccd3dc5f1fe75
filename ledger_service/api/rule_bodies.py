"""Bodies of the routes that declare currencies and posting rules, and that post by rules."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from ledger_service.api.posting_bodies import checked_key
from ledger_service.contract.rules import DayCount, Part, Rounding, Tier, Tiering
from ledger_service.domain.rule_commands import (
    AccrueInterest,
    CapitalizeInterest,
    ChargeFee,
    DeclareRule,
    accrue_interest,
    capitalize_interest,
    charge_fee,
)

Number = Annotated[int, msgspec.Meta(gt=-(2**31), lt=2**31)]
"""What can be sent; how large it may be is the ledger's to say."""


class CurrencyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A currency of the ledger's own."""

    currency: str
    exponent: Number
    dry_run: bool = False


class TierBody(Tier, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A tier as a caller writes it."""


class PartBody(Part, frozen=True, forbid_unknown_fields=True):
    """A part as a caller writes it."""

    weight: Number


class RuleBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A posting rule to declare; the meaning of the fields: `contract.events.RuleDeclared`."""

    rule: str
    since: str
    kind: Literal["fee", "interest"]
    currency: str
    tiers: list[TierBody]
    debit: list[PartBody]
    credit: list[PartBody]
    tiering: Tiering = "graduated"
    minimum: str | None = None
    maximum: str | None = None
    rounding: Rounding = "half_even"
    day_count: DayCount | None = None
    balances: Literal["positive", "negative"] = "positive"
    approval: str | None = None
    dry_run: bool = False

    def command(self, actor: str, request_id: str) -> DeclareRule:
        """The command it stands for."""
        return DeclareRule(**msgspec.structs.asdict(self), actor=actor, request_id=request_id)


class WithdrawalBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first day on which a rule is not in force any more."""

    since: str
    approval: str | None = None
    dry_run: bool = False


class ChargeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fee to post by a rule."""

    idempotency_key: str
    account: str
    amount: str | None = None
    """Of what it is taken, minor units."""
    effective_at: str | None = None
    metadata: dict[str, str] = {}
    dry_run: bool = False

    def command(self, ledger: str, rule: str, actor: str, request_id: str) -> ChargeFee:
        """The command it stands for."""
        return charge_fee(
            ledger,
            checked_key(self.idempotency_key),
            rule=rule,
            account=self.account,
            actor=actor,
            amount=self.amount,
            effective_at=self.effective_at,
            metadata=self.metadata,
            request_id=request_id,
            dry_run=self.dry_run,
        )


class AccrueBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Interest to accrue by a rule."""

    idempotency_key: str
    account: str
    through: str
    """The last day."""
    since: str | None = None
    """No day before this one."""
    dry_run: bool = False

    def command(self, ledger: str, rule: str, actor: str, request_id: str) -> AccrueInterest:
        """The command it stands for."""
        return accrue_interest(
            ledger,
            checked_key(self.idempotency_key),
            rule=rule,
            account=self.account,
            through=self.through,
            actor=actor,
            since=self.since,
            request_id=request_id,
            dry_run=self.dry_run,
        )


class CapitalizeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What has accrued by a rule, to move to the account."""

    idempotency_key: str
    account: str
    effective_at: str | None = None
    dry_run: bool = False

    def command(self, ledger: str, rule: str, actor: str, request_id: str) -> CapitalizeInterest:
        """The command it stands for."""
        return capitalize_interest(
            ledger,
            checked_key(self.idempotency_key),
            rule=rule,
            account=self.account,
            actor=actor,
            effective_at=self.effective_at,
            request_id=request_id,
            dry_run=self.dry_run,
        )
