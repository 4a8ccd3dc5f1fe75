"""The judge itself: every lie of a ledger is found by the clients' histories."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ledger_service.contract.events import encode
from tests.ledger_book import carry_out, open_book, posting
from tests.soak.history import Heard, Item, Sent
from tests.soak.judge import Judge, Judgement

PAYER, PAYEE = "customer:1:wallet", "customer:2:wallet"
Journal = list[tuple[int, bytes]]


def journal(*keys: str) -> Journal:
    """The ledger's opening (up to seq 6), then a cent a key."""
    book = open_book(PAYER, PAYEE, "bank:fbo")
    opening = [(seq, _opening(seq)) for seq in range(1, book.seq + 1)]
    posted = []
    for key in keys:
        (event,) = carry_out(book, posting(key, (PAYER, 1), (PAYEE, -1)))
        posted.append((event.seq, encode(event)))
    return opening + posted


def _opening(seq: int) -> bytes:
    from ledger_service.contract.events import AccountOpened

    return encode(
        AccountOpened(
            ledger="simulated",
            seq=seq,
            recorded_at="2026-07-01T16:00:00.000000Z",
            actor="key_test",
            account=f"customer:{seq}:wallet",
            currency="USD",
            account_class="liability",
            normal_side="credit",
            custodial=True,
            gl_code="2100",
        )
    )


def history(form: str = "single") -> list[Sent | Heard]:
    """Three transactions one after the other: two acknowledged, one whose answer was lost."""
    items = [Item(key, [(PAYER, 1), (PAYEE, -1)]) for key in "abc"]
    return [
        Sent(10, 1, form, [items[0]]),
        Heard(20, 1, [("committed", FIRST)]),
        Sent(30, 2, form, [items[1]]),
        Heard(40, 2, [("committed", FIRST + 1)]),
        Sent(50, 3, form, [items[2]]),
        Heard(60, 3, [None]),
    ]


FIRST = 7
"""Where the first cent stands: behind ledger and accounts."""


def judged(records: list[Sent | Heard], stored: Journal) -> Judgement:
    judge = Judge("simulated")
    judge.hear(records)
    return judge.look_at(stored)


@pytest.mark.parametrize("keys", ["ab", "abc"])
def test_an_honest_ledger_is_not_accused(keys: str) -> None:
    result = judged(history(), journal(*keys))
    assert result.violations == []
    assert (result.acknowledged, result.found, result.absent) == (2, len(keys) - 2, 3 - len(keys))


LIES: dict[str, tuple[Callable[[], Journal], str]] = {
    "lost": (lambda: journal("a"), "b was acknowledged at 8 and stands at []"),
    "doubled": (lambda: [*journal("a", "b"), (9, journal("a", "b")[-1][1])], "seq 9"),
    "gap": (lambda: [one for one in journal("a", "b", "c") if one[0] != 8], "seq 8 is missing"),
    "swapped": (lambda: journal("b", "a"), "a was acknowledged at 7 and stands at [8]"),
    "forged": (lambda: journal("a", "b", "x"), "seq 9 was sent by nobody"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_found(lie: str) -> None:
    stored, text = LIES[lie]
    assert any(text in found for found in judged(history(), stored()).violations)


def test_what_was_refused_must_not_be_there() -> None:
    records = history()
    records[-1] = Heard(60, 3, [("refused", "floor_passed")])
    assert judged(records, journal("a", "b")).violations == []
    assert "c was refused" in judged(records, journal("a", "b", "c")).violations[0]


def test_another_content_is_found() -> None:
    records = history()
    records[0] = Sent(10, 1, "single", [Item("a", [(PAYER, 2), (PAYEE, -2)])])
    assert judged(records, journal("a", "b")).violations == ["a has another content than was sent"]


def test_half_of_a_linked_batch_is_found() -> None:
    items = [Item(key, [(PAYER, 1), (PAYEE, -1)]) for key in "ab"]
    records = [Sent(10, 1, "linked", items), Heard(20, 1, [None, None])]
    assert judged(records, journal()).violations == []
    assert judged(records, journal("a", "b")).violations == []
    assert "linked batch" in judged(records, journal("a")).violations[0]


def test_what_was_answered_before_another_was_sent_stands_before_it() -> None:
    records = history()
    records[1] = Heard(20, 1, [("committed", FIRST + 1)])
    records[3] = Heard(40, 2, [("committed", FIRST)])
    found = judged(records, journal("b", "a")).violations
    assert found == ["a was answered at seq 8 before b was sent, which stands at 7"]
    records[2] = Sent(15, 2, "single", records[2].items)
    assert judged(records, journal("b", "a")).violations == []


def test_balances_are_those_of_the_clients_lines() -> None:
    judge = Judge("simulated")
    judge.hear(history())
    judge.look_at(journal("a", "b"))
    judge.compare_balances({PAYER: 2, PAYEE: -2, "bank:fbo": 0})
    assert judge.result.violations == []
    judge.compare_balances({PAYER: 2, PAYEE: -1})
    assert "customer:2:wallet has -1, the clients' lines say -2" in judge.result.violations
