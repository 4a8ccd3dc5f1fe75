"""Posting rules: versions in force by day, and what each makes of an amount, exactly.

All that is worked out is a ratio of integers until it is rounded, once, as the rule says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

from ledger_service.contract.events import Entry, RuleDeclared, RuleWithdrawn, Side
from ledger_service.contract.identifiers import IdentifierError, check_account, looks_personal
from ledger_service.contract.money import MAX_POSTING_MINOR
from ledger_service.contract.rules import Part, Rounding, Tier
from ledger_service.domain import legs
from ledger_service.domain.period import is_day

SUBJECT = "{account}"
"""In a rule's parts: the account to which it is applied."""
MAX_TIERS = 32
MAX_PARTS = 32
MAX_WEIGHT = 1_000_000_000

_CODE = re.compile(r"[a-z][a-z0-9_]{1,31}\Z")
_RATE = re.compile(r"(0|[1-9]\d{0,3})(\.\d{1,12})?\Z", re.ASCII)
_MINOR = re.compile(r"(0|[1-9]\d{0,18})\Z", re.ASCII)

Version = RuleDeclared | RuleWithdrawn


def in_force(versions: Sequence[Version], day: str) -> RuleDeclared | None:
    """The terms of a rule on a day: of the last version that had begun; None where none had."""
    for version in reversed(versions):
        if version.since <= day:
            return version if isinstance(version, RuleDeclared) else None
    return None


def rounded(exact: Fraction, rounding: Rounding) -> int:
    """A ratio as an integer; a negative one as the part that it is of a sum which is not negative."""
    if rounding == "down":
        return exact.numerator // exact.denominator
    if rounding == "half_even":
        return round(exact)
    return (2 * exact.numerator + exact.denominator) // (2 * exact.denominator)


def due(terms: RuleDeclared, amount: int) -> Fraction:
    """What the tiers ask of an amount, minor units; nothing below the first tier."""
    reached = [tier for tier in terms.tiers if int(tier.at_least) <= amount]
    if not reached:
        return Fraction(0)
    if terms.tiering == "volume":
        return amount * Fraction(reached[-1].rate) + int(reached[-1].fixed)
    past = [*(int(tier.at_least) for tier in reached[1:]), amount]
    return sum(
        (
            (end - int(tier.at_least)) * Fraction(tier.rate) + int(tier.fixed)
            for tier, end in zip(reached, past, strict=True)
        ),
        Fraction(0),
    )


def fee(terms: RuleDeclared, amount: int) -> int:
    """A fee of an amount, within the rule's bounds and rounded as it says."""
    exact = due(terms, amount)
    if terms.minimum is not None:
        exact = max(exact, Fraction(terms.minimum))
    if terms.maximum is not None:
        exact = min(exact, Fraction(terms.maximum))
    return rounded(exact, terms.rounding)


def entries(terms: RuleDeclared, account: str, amount: int) -> list[Entry]:
    """The entries that post an amount: both sides split so that each sums to it.

    A negative amount is taken back: the sides are swapped.
    """
    sides: tuple[Side, Side] = ("debit", "credit") if amount >= 0 else ("credit", "debit")
    return [
        *_side(sides[0], terms.debit, account, abs(amount), terms.currency),
        *_side(sides[1], terms.credit, account, abs(amount), terms.currency),
    ]


def _side(
    side: Side, parts: Sequence[Part], account: str, amount: int, currency: str
) -> Iterator[Entry]:
    shares = legs.split(amount, [part.weight for part in parts])
    for part, share in zip(parts, shares, strict=True):
        if share:
            yield Entry(named(part, account), side, str(share), currency)


def named(part: Part, account: str) -> str:
    """The account that a part means, where the rule is applied to `account`."""
    return account if part.account == SUBJECT else part.account


def accounts_of(terms: RuleDeclared) -> list[str]:
    """The accounts that a rule itself names."""
    return [part.account for part in (*terms.debit, *terms.credit) if part.account != SUBJECT]


def is_code(text: str) -> bool:
    """Whether `text` may name a rule: 2 to 32 lower-case letters, digits and _."""
    return bool(_CODE.match(text)) and not looks_personal(text)


def why_unsound(terms: RuleDeclared) -> str | None:
    """What is wrong with a rule's terms, in words; None where nothing is."""
    parts = [*terms.debit, *terms.credit]
    names = [part.account for part in parts]
    for sound, words in (
        (is_day(terms.since), "since is a day, YYYY-MM-DD"),
        (0 < len(terms.tiers) <= MAX_TIERS, f"there are 1 to {MAX_TIERS} tiers"),
        (all(_is_tier(tier) for tier in terms.tiers),
         "a tier's at_least and fixed are minor units, its rate has at most 12 places, all as text"),
        (_ascend(terms.tiers), "each tier begins above the one before"),
        (_are_bounds(terms.minimum, terms.maximum),
         "minimum and maximum are minor units, the minimum not above the maximum"),
        (terms.debit and terms.credit and len(parts) <= MAX_PARTS,
         f"debit and credit have parts, at most {MAX_PARTS} together"),
        (all(0 < part.weight <= MAX_WEIGHT for part in parts), "a weight is from 1 to 10^9"),
        (len(set(names)) == len(names), "an account stands in one part alone"),
        (all(name == SUBJECT or _is_account(name) for name in names),
         f"a part names an account, or {SUBJECT}"),
        (terms.kind == "fee" or _is_interest(terms),
         f"interest has a day_count, no fixed or bounds, and one account a side, never {SUBJECT}"),
        (terms.kind == "interest" or _is_fee(terms),
         f"a fee has no day_count, no negative balances, and {SUBJECT} among its parts"),
    ):  # fmt: skip
        if not sound:
            return words
    return None


def _is_tier(tier: Tier) -> bool:
    return bool(_RATE.match(tier.rate)) and all(_is_minor(t) for t in (tier.at_least, tier.fixed))


def _is_minor(text: str) -> bool:
    return bool(_MINOR.match(text)) and int(text) <= MAX_POSTING_MINOR


def _ascend(tiers: Sequence[Tier]) -> bool:
    return all(int(one.at_least) < int(other.at_least) for one, other in pairwise(tiers))


def _are_bounds(low: str | None, high: str | None) -> bool:
    return all(_is_minor(bound) for bound in (low, high) if bound is not None) and (
        low is None or high is None or int(low) <= int(high)
    )


def _is_account(text: str) -> bool:
    try:
        check_account(text)
    except IdentifierError:
        return False
    return True


def _is_interest(terms: RuleDeclared) -> bool:
    names = [part.account for part in (*terms.debit, *terms.credit)]
    return (
        terms.day_count is not None
        and len(names) == 2
        and SUBJECT not in names
        and terms.minimum is None
        and terms.maximum is None
        and all(tier.fixed == "0" for tier in terms.tiers)
    )


def _is_fee(terms: RuleDeclared) -> bool:
    names = [part.account for part in (*terms.debit, *terms.credit)]
    return terms.day_count is None and terms.balances == "positive" and SUBJECT in names
