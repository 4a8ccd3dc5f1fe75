"""Which reversals may be asked for, and how long the second person has: configuration, not code."""

from __future__ import annotations

import datetime as dt
from importlib import resources
from pathlib import Path

import msgspec

from ledger_service.contract.money import MoneyError, parse_minor


class PolicyError(ValueError):
    """The policy file can't be used; the message names the place."""


class ReversalRefusal(Exception):
    """A request that is not accepted. `code` is one of the API's problem codes."""

    def __init__(self, code: str, message: str, *, rule: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.rule = rule
        """Name of the policy's rule, where the code is `reversal_refused_by_policy`."""


def _against_policy(rule: str, message: str) -> ReversalRefusal:
    return ReversalRefusal("reversal_refused_by_policy", message, rule=rule)


class Band(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What holds for amounts up to a limit."""

    approval_within_hours: int
    up_to: str | None = None
    """Minor units; None covers every amount."""

    def covers(self, amount: int) -> bool:
        return self.up_to is None or amount <= int(self.up_to)


class ReversalPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules of voluntary reversals. There is no way to switch the second person off (P12)."""

    name: str
    version: int
    reasons: list[str]
    never_reversed: list[str]
    maximum_age_days: int
    bands: list[Band]

    @property
    def reference(self) -> str:
        """Name and version, as recorded with every reversal that it let pass."""
        return f"{self.name}/{self.version}"

    def time_for_approval(
        self, *, kind: str, imposed: bool, age_days: int, amount: int, reason: str
    ) -> dt.timedelta:
        """How long the second person has to decide on reversing `amount` minor units.

        `age_days` counts from the effective date of the original. Errors:
        `ReversalRefusal` with one of the rules `unknown_reason`, `not_reversible`,
        `too_old_to_reverse`, `amount_beyond_policy`.
        """
        if reason not in self.reasons:
            raise _against_policy(
                "unknown_reason", f"Give one of these reasons: {', '.join(self.reasons)}."
            )
        if imposed or kind in self.never_reversed:
            raise _against_policy(
                "not_reversible",
                "Such a transaction is not undone by a reversal; post what corrects it instead.",
            )
        if age_days > self.maximum_age_days:
            raise _against_policy(
                "too_old_to_reverse",
                f"The transaction is {age_days} days old; policy {self.reference} allows "
                f"{self.maximum_age_days}.",
            )
        band = next((band for band in self.bands if band.covers(amount)), None)
        if band is None:
            raise _against_policy(
                "amount_beyond_policy",
                f"Policy {self.reference} has no band for this amount; reverse a smaller part.",
            )
        return dt.timedelta(hours=band.approval_within_hours)


def read_policy(path: str) -> ReversalPolicy:
    """The policy in the YAML file at `path`, or for "" the package's. Errors: `PolicyError`."""
    source = (
        Path(path)
        if path
        else resources.files("ledger_service.payments").joinpath("reversal_policy.yaml")
    )
    try:
        policy = msgspec.yaml.decode(source.read_bytes(), type=ReversalPolicy)
        for band in policy.bands:
            if band.up_to is not None:
                parse_minor(band.up_to)
    except (OSError, msgspec.MsgspecError, MoneyError) as error:
        raise PolicyError(f"TALLYSTICK_REVERSAL_POLICY, {source}: {error}") from None
    if any(band.approval_within_hours < 1 for band in policy.bands):
        raise PolicyError(
            f"TALLYSTICK_REVERSAL_POLICY, {source}: approval_within_hours is at least 1"
        )
    return policy
