"""A posting rule's terms in words: each tier, bound and share, as the ledger works it out."""

from __future__ import annotations

from typing import Any

import msgspec

from ledger_service.contract.events import RuleDeclared, RuleWithdrawn
from ledger_service.contract.rules import Part, Tier
from monitoring.console import rule_words
from monitoring.console.rule_words import in_words

HEAD: dict[str, Any] = {
    "ledger": "books",
    "recorded_at": "2026-07-01T16:00:00.000000Z",
    "actor": "a",
}
FEE = RuleDeclared(
    **HEAD, seq=9, rule="card", version=1, since="2026-06-01", kind="fee", currency="USD",
    tiers=[Tier(rate="0.029", fixed="30")], debit=[Part("{account}", 1)],
    credit=[Part("income:fees", 1)],
)  # fmt: skip
TIERS = [
    Tier("0", "0.02", "10"),
    Tier("100000", "0.01", "50"),
    Tier("500000"),
]


def said(term: str, **changes: Any) -> list[str]:
    terms = rule_words.declared(msgspec.structs.replace(FEE, **changes))
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in in_words(terms, 2)[term]]


def test_every_term_of_a_fee() -> None:
    words = in_words(rule_words.declared(FEE), 2)
    assert list(words) == [
        "Kind",
        "In force",
        "Charged",
        "Bounds",
        "Rounded",
        "Debited",
        "Credited",
    ]
    assert said("Charged") == ["2.9 % of the amount and 0.30 USD"]
    assert said("Bounds") == ["No minimum, no maximum"]
    assert said("Bounds", minimum="100", maximum="5000") == [
        "At least 1.00 USD",
        "At most 50.00 USD",
    ]
    assert said("Debited") == ["The account it is applied to"]
    shared = [Part("income:fees", 2), Part("payable:partner", 1)]
    assert said("Credited", credit=shared) == [
        "income:fees: 2 of 3 parts",
        "payable:partner: 1 of 3 parts",
    ]


def test_each_tier_says_of_what_it_is() -> None:
    assert said("Charged", tiers=TIERS) == [
        "2 % of the first 1,000.00 USD and 0.10 USD",
        "1 % of what lies between 1,000.00 USD and 5,000.00 USD, and 0.50 USD once that is reached",
        "Nothing of what is above 5,000.00 USD",
    ]
    assert said("Charged", tiers=TIERS, tiering="volume") == [
        "Amount from 0.00 USD to below 1,000.00 USD: 2 % of the whole amount and 0.10 USD",
        "Amount from 1,000.00 USD to below 5,000.00 USD: 1 % of the whole amount and 0.50 USD",
        "Amount from 5,000.00 USD on: nothing of the whole amount",
    ]
    assert said("Charged", tiers=[Tier("100", "0.01")]) == [
        "Nothing below 1.00 USD",
        "1 % of what is above 1.00 USD",
    ]
    assert said("Charged", tiers=[Tier("100", "0.01")], tiering="volume") == [
        "Nothing below 1.00 USD",
        "1 % of the whole amount",
    ]
    assert said("Charged", tiers=[Tier(fixed="7")]) == ["0.07 USD"]


def test_interest_says_whose_days_and_balances_it_counts() -> None:
    interest = {
        "kind": "interest", "tiers": [Tier(rate="0.04"), Tier("100000", "0.045")],
        "day_count": "30E/360", "balances": "negative", "rounding": "down",
    }  # fmt: skip
    assert said("Accrued", **interest) == [
        "4 % a year of the first 1,000.00 USD",
        "4.5 % a year of what is above 1,000.00 USD",
    ]
    assert said("Days", **interest) == [
        "30E/360: months of 30 days, over a year of 360 (Eurobond basis)"
    ]
    assert said("Borne by", **interest) == [
        "Balances on the other side than the account’s normal one"
    ]


def test_new_terms_are_compared_with_those_whose_place_they_take() -> None:
    second = msgspec.structs.replace(FEE, seq=10, version=2, since="2026-08-01")
    ended = RuleWithdrawn(**HEAD, seq=11, rule="card", version=3, since="2026-09-01")
    versions = [FEE, second, ended]
    for since, version in (
        ("2026-07-31", FEE),
        ("2026-08-01", second),
        ("2026-09-01", second),
        ("2026-05-01", second),
    ):
        assert rule_words.replaced(versions, since) == version, since
    assert rule_words.replaced([], "2026-07-01") is None
