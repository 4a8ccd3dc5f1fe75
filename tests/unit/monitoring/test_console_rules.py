"""What a rule's page says was posted: interest that was taken back is negative."""

from __future__ import annotations

import pytest

from ledger_service.contract.events import RuleDeclared, TransactionPosted
from ledger_service.contract.rules import Tier
from monitoring.console.pages.rules import amount_posted
from tests.ledger_book import (
    accruing,
    begin_accruing,
    capitalizing,
    carry_out,
    charging,
    fee_rule,
    interest_rule,
    open_book,
    parts,
    posting,
)

WALLET, LOAN, FBO = "customer:1:wallet", "receivable:loan:1", "bank:fbo"
OURS = {"debit": parts(("receivable:interest", 1)), "credit": parts(("income:interest", 1))}


@pytest.mark.parametrize(
    ("account", "sign", "terms"), [(WALLET, -1, {}), (LOAN, 1, OURS)], ids=["savings", "loan"]
)
def test_interest_that_was_taken_back_is_negative(account, sign, terms) -> None:
    named = ("expense:interest", "payable:interest", "receivable:interest", "income:interest")
    book = open_book(account, FBO, *named)
    [declared] = carry_out(book, interest_rule("save", "0.365", **terms))
    assert isinstance(declared, RuleDeclared)
    begin_accruing(book, "save", account)

    def move(amount: int) -> None:
        moves = (account, sign * amount), (FBO, -sign * amount)
        carry_out(book, posting(f"{book.seq}", *moves, effective_at="2026-06-01T12:00:00Z"))

    def amounts(day: str) -> list[int]:
        shown = []
        for command in (
            accruing(day, "save", account, day),
            capitalizing(f"c {day}", "save", account),
        ):
            [event] = carry_out(book, command)
            assert isinstance(event, TransactionPosted)
            shown.append(amount_posted(event, declared))
        return shown

    move(10_000)
    assert amounts("2026-06-10") == [100, 100]
    move(-10_000)
    assert amounts("2026-06-11") == [-100, -100]


def test_a_fee_is_what_it_moves() -> None:
    book = open_book(WALLET, FBO, "income:fees")
    [declared] = carry_out(book, fee_rule("card", Tier(fixed="5")))
    [event] = carry_out(book, charging("k", "card", WALLET, 10))
    assert isinstance(declared, RuleDeclared)
    assert isinstance(event, TransactionPosted)
    assert amount_posted(event, declared) == 5
