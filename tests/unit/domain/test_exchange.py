"""Exchange: each currency balances on its own, through our positions, at a stated ratio."""

from __future__ import annotations

import pytest

from ledger_service.contract.events import Rate
from ledger_service.contract.money import EXPONENTS
from ledger_service.domain.book import Book
from ledger_service.domain.commands import OpenAccount
from ledger_service.domain.errors import Refusal
from tests.ledger_book import NOW, carry_out, entries, holding, open_book, posting, reversing

USD, EUR = "customer:1:usd", "customer:1:eur"
LONG_USD, SHORT_EUR = "position:usd", "position:eur"
RATE = Rate("USD", "EUR", "9137", "10000")


@pytest.fixture
def book() -> Book:
    book = open_book(USD, LONG_USD)
    for account in (EUR, SHORT_EUR):
        carry_out(book, OpenAccount(account, "EUR", "key_test"))
    return book


def exchange(sold: int, bought: int, rate: Rate | None = RATE):
    lines = entries((USD, sold), (LONG_USD, -sold))
    lines += entries((SHORT_EUR, bought), (EUR, -bought), currency="EUR")
    return posting("k", entries=lines, rate=rate)


def refused(decision) -> str:
    assert isinstance(decision, Refusal), decision
    return decision.code


def test_what_is_sold_makes_us_long_and_what_is_bought_short(book) -> None:
    [event] = carry_out(book, exchange(10_000, 9_137))
    assert event.rate == RATE
    assert book.accounts[LONG_USD].balance == 10_000
    assert book.accounts[SHORT_EUR].balance == -9_137
    assert (book.accounts[USD].balance, book.accounts[EUR].balance) == (-10_000, 9_137)
    [back] = carry_out(book, reversing("r", event.seq))
    assert back.rate == RATE
    assert not any(account.balance for account in book.accounts.values())


@pytest.mark.parametrize(
    ("sold", "bought", "fits"),
    [(10_001, 9_137, True), (10_001, 9_138, True), (10_001, 9_139, False), (10_001, 9_136, False),
     (1, 1, True), (1, 2, False), (10_000, 9_138, False), (10_000, 9_136, False)],
)  # fmt: skip
def test_amounts_may_be_rounded_by_less_than_a_minor_unit(book, sold, bought, fits) -> None:
    decision = book.decide(exchange(sold, bought), NOW)
    assert isinstance(decision, list) if fits else refused(decision) == "rate_differs"


def test_minor_units_of_different_size_are_taken_into_account() -> None:
    from ledger_service.domain.exchange import check_rate

    lines = entries((USD, 100), (LONG_USD, -100))
    lines += entries(("position:jpy", 150), ("customer:1:jpy", -150), currency="JPY")
    assert check_rate(lines, Rate("USD", "JPY", "150", "1"), EXPONENTS) is None
    assert refused(check_rate(lines, Rate("USD", "JPY", "15000", "1"), EXPONENTS)) == "rate_differs"


@pytest.mark.parametrize(
    ("rate", "code"),
    [
        (None, "rate_missing"),
        (Rate("USD", "GBP", "1", "1"), "bad_rate"),
        (Rate("USD", "EUR", "0", "1"), "bad_rate"),
        (Rate("USD", "EUR", "0.9137", "1"), "bad_rate"),
        (Rate("USD", "EUR", "9137", ""), "bad_rate"),
        (Rate("EUR", "USD", "10000", "9137"), "not_through_positions"),
    ],
)
def test_two_currencies_need_the_rate_between_them_in_its_direction(book, rate, code) -> None:
    assert refused(book.decide(exchange(10_000, 9_137, rate), NOW)) == code


def test_one_currency_takes_no_rate_and_two_go_through_positions(book) -> None:
    plain = posting("k", (USD, 5), (LONG_USD, -5), rate=RATE)
    assert refused(book.decide(plain, NOW)) == "rate_not_needed"
    lines = entries((USD, 5), ("bank:fbo", -5))
    lines += entries((EUR, 5), (SHORT_EUR, -5), currency="EUR")
    aside = posting("k", entries=lines, rate=RATE)
    assert refused(book.decide(aside, NOW)) == "not_through_positions"


def test_a_hold_is_in_one_currency(book) -> None:
    command = holding("h", (USD, 5), (LONG_USD, -5))
    both = [*command.entries, *entries((EUR, 5), (SHORT_EUR, -5), currency="EUR")]
    from ledger_service.domain.commands import place_hold

    asked = place_hold("simulated", "h", kind="transfer", entries=both, actor="key_test")
    assert refused(book.decide(asked, NOW)) == "rate_missing"
