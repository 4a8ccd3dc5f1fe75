"""Holds: set aside, captured in parts, voided, expired; never captured beyond what is left."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest

from ledger_service.contract.events import HoldPlaced, HoldReleased, TransactionPosted
from ledger_service.domain.book import Book, Replay
from ledger_service.domain.commands import ChangeAccount, ExpireHold, OpenAccount
from ledger_service.domain.errors import Refusal
from tests.ledger_book import (
    NOW,
    capturing,
    carry_out,
    entries,
    holding,
    open_book,
    posting,
    voiding,
)

A, B, FBO, CARD = "customer:1:wallet", "customer:2:wallet", "bank:fbo", "clearing:card"
LATER = "2026-07-01T17:00:00Z"
AT_EXPIRY = NOW + dt.timedelta(hours=1)


def refused(decision) -> str:
    assert isinstance(decision, Refusal), decision
    return decision.code


@pytest.fixture
def book() -> Book:
    """Customer 1 has 100, and nobody goes below zero."""
    book = open_book(A, B, FBO, CARD, floor="0")
    carry_out(book, posting("in", (FBO, 100), (A, -100)))
    return book


def place(book: Book, amount: int = 60, key: str = "h", **options) -> int:
    [event] = carry_out(book, holding(key, (A, amount), (CARD, -amount), **options))
    assert isinstance(event, HoldPlaced)
    return event.seq


def state(book: Book) -> tuple[int, int]:
    """Posted and still available of customer 1."""
    return book.accounts[A].balance, book.accounts[A].secured


def test_what_is_held_is_posted_nowhere_and_available_to_nobody(book) -> None:
    place(book)
    assert state(book) == (100, 40)
    assert refused(book.decide(posting("out", (A, 41), (FBO, -41)), NOW)) == "floor_passed"
    assert refused(book.decide(holding("more", (A, 41), (CARD, -41)), NOW)) == "floor_passed"
    assert isinstance(book.decide(posting("out", (A, 40), (FBO, -40)), NOW), list)
    assert book.accounts[CARD].balance == 0


def test_what_is_pending_in_an_account_s_favour_is_not_available_yet_but_fills_it(book) -> None:
    carry_out(book, OpenAccount("customer:3:wallet", "USD", "key_test", None, "0", "50"))
    carry_out(book, holding("h", (A, 45), ("customer:3:wallet", -45)))
    spend = posting("spend", ("customer:3:wallet", 1), (FBO, -1))
    assert refused(book.decide(spend, NOW)) == "floor_passed"
    more = posting("more", (FBO, 6), ("customer:3:wallet", -6))
    assert refused(book.decide(more, NOW)) == "ceiling_passed"


def test_a_capture_in_full_posts_what_was_held_and_ends_it(book) -> None:
    hold = place(book)
    [event] = carry_out(book, capturing("c", hold))
    assert isinstance(event, TransactionPosted)
    assert (event.captures, event.ends_hold, event.kind) == (hold, True, "card_purchase")
    assert event.entries == entries((A, 60), (CARD, -60))
    assert state(book) == (40, 40)
    assert refused(book.decide(capturing("d", hold, 1), NOW)) == "hold_ended"
    assert book.decide(capturing("c", hold), NOW) == Replay(event.seq)


def test_captures_in_part_never_go_beyond_the_hold_and_the_last_one_ends_it(book) -> None:
    hold = place(book)
    carry_out(book, capturing("c1", hold, 25, ends_hold=False))
    assert state(book) == (75, 40)
    over = book.decide(capturing("c2", hold, 36, ends_hold=False), NOW)
    assert refused(over) == "hold_exceeded"
    assert over.detail["left"] == "35"
    [event] = carry_out(book, capturing("c3", hold, 35, ends_hold=False))
    assert event.ends_hold, "nothing is left"
    assert state(book) == (40, 40)


def test_a_last_capture_in_part_releases_the_rest(book) -> None:
    hold = place(book)
    carry_out(book, capturing("c", hold, 25))
    assert state(book) == (75, 75)
    assert refused(book.decide(voiding("v", hold), NOW)) == "hold_ended"


def test_a_part_of_a_hold_with_many_legs_is_spread_to_the_cent(book) -> None:
    carry_out(book, posting("in2", (FBO, 100), (B, -100)))
    [held] = carry_out(book, holding("h", (A, 10), (B, 20), (CARD, -30)))
    [event] = carry_out(book, capturing("c", held.seq, 10, ends_hold=False))
    assert event.entries == entries((A, 3), (B, 7), (CARD, -10))
    [event] = carry_out(book, capturing("d", held.seq))
    assert event.entries == entries((A, 7), (B, 13), (CARD, -20))


def test_a_void_gives_back_what_is_left(book) -> None:
    hold = place(book)
    carry_out(book, capturing("c", hold, 25, ends_hold=False))
    [event] = carry_out(book, voiding("v", hold))
    assert isinstance(event, HoldReleased)
    assert (event.cause, event.entries) == ("voided", entries((A, 35), (CARD, -35)))
    assert state(book) == (75, 75)
    assert book.decide(voiding("v", hold), NOW) == Replay(event.seq)
    assert refused(book.decide(capturing("d", hold), NOW)) == "hold_ended"


def test_at_the_moment_of_its_expiry_a_hold_can_no_more_be_captured(book) -> None:
    hold = place(book, expires_at=LATER)
    just_before = AT_EXPIRY - dt.timedelta(microseconds=1)
    assert isinstance(book.decide(capturing("c", hold), just_before), list)
    assert refused(book.decide(ExpireHold(hold, "writer"), just_before)) == "hold_ended"
    assert refused(book.decide(capturing("c", hold), AT_EXPIRY)) == "hold_expired"
    assert state(book) == (100, 40), "only an event changes anything"
    [event] = carry_out(book, ExpireHold(hold, "writer"), AT_EXPIRY)
    assert (event.cause, event.idempotency_digest) == ("expired", None)
    assert state(book) == (100, 100)
    assert refused(book.decide(ExpireHold(hold, "writer"), AT_EXPIRY)) == "hold_ended"


@pytest.mark.parametrize("expires_at", [
    "tomorrow", "2026-07-01T17:00:00", "2026-07-01T16:00:00Z", "9999-12-31T23:59:59-14:00",
])  # fmt: skip
def test_an_expiry_is_a_moment_that_lies_ahead(book, expires_at) -> None:
    command = holding("h", (A, 5), (CARD, -5), expires_at=expires_at)
    assert refused(book.decide(command, NOW)) == "bad_expiry"


def test_what_is_held_stays_set_aside_when_the_outside_world_takes_the_rest(book) -> None:
    """A hold that was granted can be captured, whatever is imposed in between (P4)."""
    hold = place(book)
    [event] = carry_out(book, posting("ret", (A, 70), (FBO, -70), kind="return", imposed=True))
    assert event.entries[2:] == entries(("receivable:shortfall", 30), (A, -30))
    assert state(book) == (60, 0)
    carry_out(book, capturing("c", hold))
    assert state(book) == (0, 0)


def test_a_frozen_account_s_hold_is_not_captured_but_can_be_voided(book) -> None:
    hold = place(book)
    carry_out(book, ChangeAccount(A, "debits_frozen", "compliance_hold", "key_test"))
    assert refused(book.decide(capturing("c", hold), NOW)) == "account_frozen"
    assert isinstance(book.decide(voiding("v", hold), NOW), list)


def test_an_account_with_something_pending_is_not_closed(book) -> None:
    hold = place(book, 100)
    carry_out(book, posting("in2", (FBO, 5), (B, -5)))
    change = ChangeAccount(CARD, "closed", "ended", "key_test")
    assert refused(book.decide(change, NOW)) == "account_has_holds"
    carry_out(book, voiding("v", hold))
    assert isinstance(book.decide(change, NOW), list)


def test_a_hold_that_nobody_placed(book) -> None:
    assert refused(book.decide(capturing("c", 77), NOW)) == "unknown_hold"
    assert refused(book.decide(voiding("v", 77), NOW)) == "unknown_hold"


def test_a_hold_loaded_from_what_is_stored_is_the_hold_that_was_there(book) -> None:
    hold = place(book)
    carry_out(book, capturing("c", hold, 25, ends_hold=False))
    here = book.holds[hold]
    book.load_hold(here.event, list(here.left.values()), here.state, here.version)
    assert book.holds[hold] == here
    assert book.holds[hold] is not here


def test_what_a_capture_touches_is_every_leg_of_its_hold(book) -> None:
    """A leg too small for a share in a part is released with the rest."""
    carry_out(book, posting("in2", (FBO, 100), (B, -100)))
    [held] = carry_out(book, holding("h", (A, 1), (B, 50), (CARD, -51)))
    [event] = book.decide(capturing("c", held.seq, 10), NOW)
    assert A not in {entry.account for entry in event.entries}
    assert set(book.touched(event)) == {A, B, CARD}


def test_what_is_taken_back_leaves_no_trace(book) -> None:
    """For a linked batch: whatever it did before one of its items was refused."""
    hold, other = place(book), place(book, 10, "h2")
    carry_out(book, capturing("c", hold, 10, ends_hold=False))

    def trace() -> bytes:
        parts = book.seq, book.recorded_at, dict(book.accounts), dict(book.holds), dict(book.keys)
        return msgspec.msgpack.encode((*parts[:2], [sorted(part.items()) for part in parts[2:]]))

    before = trace()
    book.begin()
    for command in (
        posting("x1", (A, 7), (B, -7)),
        holding("x2", (A, 5), (CARD, -5)),
        capturing("x3", hold, 20),
        voiding("x4", other),
        capturing("x5", book.seq + 2),
    ):
        assert isinstance(carry_out(book, command, NOW + dt.timedelta(seconds=9)), list)
    assert trace() != before
    book.take_back()
    assert trace() == before


def test_a_clock_that_is_set_back_brings_no_hold_to_life_again(book) -> None:
    """Ends are decided once: by the clock, and never before what is recorded already."""
    seq = place(book, expires_at=LATER)
    carry_out(book, posting("ahead", (FBO, 1), (A, -1)), AT_EXPIRY)
    assert refused(book.decide(capturing("c", seq), NOW)) == "hold_expired"
    again = holding("again", (A, 1), (CARD, -1), expires_at=LATER)
    assert refused(book.decide(again, NOW)) == "bad_expiry"
    [released] = carry_out(book, ExpireHold(seq, "writer"), NOW)
    assert released.recorded_at == LATER.replace("Z", ".000000Z")
    assert refused(book.decide(capturing("c", seq), NOW)) == "hold_ended"
