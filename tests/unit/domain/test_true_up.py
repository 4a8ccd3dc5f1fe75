"""True-up: what is backdated into accrued days is made up for by the next accrual, to the last ratio."""

from __future__ import annotations

import datetime as dt
from fractions import Fraction
from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from ledger_service.contract.events import JournalEvent, RuleDeclared, TransactionPosted
from ledger_service.contract.rules import Applied, Tier
from ledger_service.domain.book import Book
from ledger_service.domain.commands import OpenAccount
from ledger_service.domain.day_count import year_fraction
from ledger_service.domain.errors import Refusal
from ledger_service.domain.interest import Accruing, parse_ratio
from ledger_service.domain.period_commands import ClosePeriod
from ledger_service.engine.charts import known_charts
from ledger_service.engine.fold import Fold
from tests.ledger_book import (
    NOW,
    OPENING,
    accruing,
    begin_accruing,
    capitalizing,
    carry_out,
    interest_rule,
    open_book,
    posting,
)

A, FBO, EXPENSE, PAYABLE = "customer:1:wallet", "bank:fbo", "expense:interest", "payable:interest"


@pytest.fixture
def book() -> Book:
    """With a rule by which 100,000 bear 10 a day."""
    book = open_book(A, FBO, EXPENSE, PAYABLE, floor="0")
    carry_out(book, interest_rule("save", "0.0365"))
    begin_accruing(book, "save", A)
    return book


def fund(book: Book, amount: int, day: str) -> None:
    """A deposit; a withdrawal where it is negative."""
    command = posting(
        f"fund {book.seq}", (FBO, amount), (A, -amount), effective_at=f"{day}T16:00:00Z"
    )
    assert isinstance(carry_out(book, command), list)


def posted(book: Book, command: Any, now: dt.datetime = NOW) -> TransactionPosted:
    decision = carry_out(book, command, now)
    assert isinstance(decision, list), decision
    [event] = decision
    assert isinstance(event, TransactionPosted)
    return event


def accrue(book: Book, through: str, now: dt.datetime = NOW, **options: Any) -> TransactionPosted:
    return posted(book, accruing(f"accrue {book.seq}", "save", A, through, **options), now)


def capitalize(book: Book, **options: Any) -> TransactionPosted:
    return posted(book, capitalizing(f"capitalize {book.seq}", "save", A, **options))


def lines(event: TransactionPosted) -> list[tuple[str, int]]:
    return [
        (entry.account, int(entry.amount) if entry.side == "debit" else -int(entry.amount))
        for entry in event.entries
    ]


def applied(event: TransactionPosted) -> Applied:
    assert event.applied is not None
    return event.applied


def stated(event: TransactionPosted) -> tuple[str | None, str | None]:
    """Interest of its own days, and its true-up."""
    return applied(event).interest, applied(event).true_up


# --- what is made up for ------------------------------------------------------------------------


def test_a_backdated_deposit_is_made_up_for_beside_the_days_that_follow(book) -> None:
    fund(book, 100_000, "2026-06-01")
    assert stated(accrue(book, "2026-06-10")) == ("100/1", "0/1")
    fund(book, 50_000, "2026-06-05")  # six accrued days had 5 a day too little
    event = accrue(book, "2026-06-12")
    assert stated(event) == ("30/1", "30/1")
    assert lines(event) == [(EXPENSE, 60), (PAYABLE, -60)]
    assert (applied(event).accrued, applied(event).first_day) == ("160", "2026-06-11")
    assert stated(accrue(book, "2026-06-13")) == ("15/1", "0/1"), "it is made up for once"


def test_interest_that_was_not_due_is_taken_back(book) -> None:
    fund(book, 100_000, "2026-06-01")
    accrue(book, "2026-06-20")
    fund(book, -100_000, "2026-06-01")
    event = accrue(book, "2026-06-21")
    assert stated(event) == ("0/1", "-200/1")
    assert lines(event) == [(EXPENSE, -200), (PAYABLE, 200)]
    assert applied(event).accrued == "0"
    assert book.accounts[PAYABLE].balance == book.accounts[EXPENSE].balance == 0


def test_what_is_taken_back_is_first_set_off_against_the_days_that_follow(book) -> None:
    fund(book, 100_000, "2026-06-01")
    accrue(book, "2026-06-10")
    fund(book, -10_000, "2026-06-10")
    event = accrue(book, "2026-06-11")
    assert stated(event) == ("9/1", "-1/1")
    assert lines(event) == [(EXPENSE, 8), (PAYABLE, -8)]


def test_each_day_is_looked_at_by_itself_for_tiers_are_not_linear(book) -> None:
    steps = [Tier(rate="0.0365"), Tier("100000", rate="0.073")]
    carry_out(book, interest_rule("steps", "0", tiers=steps))
    begin_accruing(book, "steps", A)
    fund(book, 90_000, "2026-06-01")
    fund(book, 90_000, "2026-06-06")
    posted(book, accruing("k", "steps", A, "2026-06-10"))
    fund(book, 20_000, "2026-06-01")
    event = posted(book, accruing("l", "steps", A, "2026-06-11"))
    below_and_above, above = 1 + 2, 4
    assert applied(event).true_up == f"{5 * below_and_above + 5 * above}/1"


def test_entries_that_cancel_out_leave_the_days_between_them(book) -> None:
    fund(book, 100_000, "2026-06-01")
    accrue(book, "2026-06-10")
    fund(book, 100_000, "2026-06-03")
    fund(book, -100_000, "2026-06-06")
    assert stated(accrue(book, "2026-06-11")) == ("10/1", "30/1")


def test_days_stay_open_while_what_they_owe_is_set_off_by_the_true_up(book) -> None:
    fund(book, 100_000, "2026-06-01")
    accrue(book, "2026-06-10")
    fund(book, -50_000, "2026-06-10")
    fund(book, 50_000, "2026-06-12")
    refused = carry_out(book, accruing("k", "save", A, "2026-06-11"))
    assert isinstance(refused, Refusal)
    assert refused.code == "nothing_due", "5 of one day, 5 too much of the day before"
    assert stated(accrue(book, "2026-06-12")) == ("15/1", "-5/1")


def test_days_before_the_first_and_days_left_out_bear_nothing_afterwards_either(book) -> None:
    fund(book, 100_000, "2026-06-01")
    accrue(book, "2026-06-10", since="2026-06-06")
    accrue(book, "2026-06-20", since="2026-06-16")
    fund(book, 100_000, "2026-06-02")
    assert stated(accrue(book, "2026-06-21")) == ("20/1", "100/1")


# --- terms, periods and closed days -------------------------------------------------------------


def test_a_day_keeps_the_terms_by_which_it_was_accrued(book) -> None:
    fund(book, 100_000, "2026-06-01")
    carry_out(book, interest_rule("save", "0.073", since="2026-06-06"))
    accrue(book, "2026-06-10")
    fund(book, 100_000, "2026-06-01")
    carry_out(book, interest_rule("save", "0.365", since="2026-06-01"))
    assert stated(accrue(book, "2026-06-11")) == ("200/1", f"{5 * 10 + 5 * 20}/1")


def test_days_whose_interest_is_capitalized_are_made_up_for_in_the_period_after(book) -> None:
    fund(book, 100_000, "2026-06-01")
    accrue(book, "2026-06-10")
    capitalize(book, effective_at="2026-06-11T12:00:00Z")
    fund(book, 100_000, "2026-06-06")
    event = accrue(book, "2026-06-11")
    assert stated(event) == ("2001/100", "50/1")
    assert (applied(event).period_start, applied(event).accrued) == ("2026-06-11", "70")
    assert lines(capitalize(book)) == [(PAYABLE, 70), (A, -70)]


def test_what_was_known_between_the_last_accrual_and_capitalization_is_not_lost(book) -> None:
    fund(book, 100_000, "2026-06-01")
    accrue(book, "2026-06-10")
    fund(book, 100_000, "2026-06-06")
    capitalize(book, effective_at="2026-06-11T12:00:00Z")
    assert stated(accrue(book, "2026-06-11")) == ("2001/100", "50/1")


def test_interest_that_was_capitalized_is_taken_back_from_the_account(book) -> None:
    fund(book, 100_000, "2026-06-01")
    accrue(book, "2026-06-20")
    capitalize(book)
    fund(book, -90_000, "2026-06-01")
    event = accrue(book, "2026-06-21")
    assert (stated(event), applied(event).accrued) == (("1/1", "-180/1"), "-179")
    assert book.accounts[PAYABLE].balance == -179
    assert lines(capitalize(book)) == [(A, 179), (PAYABLE, -179)]
    assert book.accounts[PAYABLE].balance == 0


def test_what_the_account_cannot_bear_is_set_off_against_interest_to_come(book) -> None:
    fund(book, 100_000, "2026-06-01")
    accrue(book, "2026-06-20")
    capitalize(book)
    fund(book, -100_100, "2026-06-01")
    accrue(book, "2026-06-21")
    refused = carry_out(book, capitalizing("k", "save", A))
    assert isinstance(refused, Refusal)
    assert refused.code == "floor_passed"
    fund(book, 900_000, "2026-06-22")
    event = accrue(book, "2026-06-24")
    assert applied(event).accrued == "70"


def test_capitalized_interest_that_counts_for_an_accrued_day_bears_interest_from_it(book) -> None:
    fund(book, 3_650_000, "2026-06-01")
    accrue(book, "2026-06-20")
    capitalize(book, effective_at="2026-06-20T23:00:00Z")
    assert stated(accrue(book, "2026-06-21")) == ("36573/100", "73/100")


def test_what_closed_days_owe_counts_on_the_day_of_the_accrual(book) -> None:
    fund(book, 100_000, "2026-06-01")
    accrue(book, "2026-06-10")
    fund(book, 100_000, "2026-06-10")
    carry_out(book, ClosePeriod("2026-06-10", "usr_1"))
    event = accrue(book, "2026-06-11")
    assert (stated(event), event.effective_date) == (("20/1", "10/1"), "2026-06-11")
    fund(book, 100_000, "2026-06-11")
    carry_out(book, ClosePeriod("2026-06-30", "usr_1"))
    event = accrue(book, "2026-06-12")
    assert (stated(event), event.effective_date) == (("30/1", "10/1"), "2026-07-01")
    assert event.value_date == "2026-06-12"


def test_a_day_s_part_of_a_year_is_counted_from_the_start_of_its_own_period() -> None:
    """In months of thirty days the 31st bears nothing in a period that began on the 1st, though it is
    the first of an accrual."""
    book = open_book(A, FBO, EXPENSE, PAYABLE)
    carry_out(book, interest_rule("save", "0.36", day_count="30/360", since="2026-03-01"))
    begin_accruing(book, "save", A)
    fund(book, 100_000, "2026-03-01")
    accrue(book, "2026-03-30")
    assert stated(accrue(book, "2026-04-01")) == ("100/1", "0/1"), "of the 31st and the 1st"
    fund(book, 100_000, "2026-03-31")
    assert stated(accrue(book, "2026-04-02")) == ("200/1", "100/1")
    capitalize(book, effective_at="2026-07-01T12:00:00Z")
    accrue(book, "2026-05-30")
    fund(book, 100_000, "2026-03-30")
    days_of_each_period = 1 + 0 + 2, 58
    assert stated(accrue(book, "2026-05-31"))[1] == f"{100 * sum(days_of_each_period)}/1"


def test_a_linked_batch_that_is_refused_leaves_the_true_up_to_the_next(book) -> None:
    fund(book, 100_000, "2026-06-01")
    accrue(book, "2026-06-10")
    fund(book, 100_000, "2026-06-10")
    book.begin()
    fund(book, 100_000, "2026-06-09")
    assert stated(accrue(book, "2026-06-11")) == ("30/1", "30/1")
    book.take_back()
    assert stated(accrue(book, "2026-06-11")) == ("20/1", "10/1")


def test_interest_on_an_account_that_the_rule_itself_moves_knows_only_what_came_before_it() -> None:
    book = open_book(A, FBO, EXPENSE, PAYABLE)
    carry_out(book, interest_rule("save", "0.365"))
    begin_accruing(book, "save", PAYABLE)
    moves = [(EXPENSE, 100_000), (PAYABLE, -100_000)]
    carry_out(book, posting("k", *moves, effective_at="2026-06-01T12:00:00Z"))
    first = posted(book, accruing("l", "save", PAYABLE, "2026-06-01"))
    second = posted(book, accruing("m", "save", PAYABLE, "2026-06-02"))
    assert stated(first) == ("100/1", "0/1")
    assert stated(second) == ("1001/10", "1/10"), "the 100 count at the end of the first day"


# --- against a slow way -------------------------------------------------------------------------

FIRST = dt.date(2026, 5, 3)
DAYS = [FIRST + dt.timedelta(days=number) for number in range(59)]
RULES = st.fixed_dictionaries(
    {
        "tiers": st.sampled_from(
            [
                [Tier(rate="0.0425")],
                [Tier(rate="0.333333333333")],
                [Tier(rate="0.1"), Tier("50000", rate="0.02"), Tier("120000", rate="0.3")],
            ]
        ),
        "tiering": st.sampled_from(["graduated", "volume"]),
        "rounding": st.sampled_from(["down", "half_up", "half_even"]),
        "day_count": st.sampled_from(["ACT/365F", "ACT/ACT", "30/360", "30U/360"]),
    }
)
DAY = st.integers(0, 58)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("move"), DAY, st.integers(-90_000, 200_000).filter(bool)),
        st.tuples(st.just("move"), DAY, st.integers(-90_000, 200_000).filter(bool)),
        st.tuples(st.just("accrue"), DAY, st.none()),
        st.tuples(st.just("accrue"), DAY, st.none()),
        st.tuples(st.just("capitalize"), DAY, st.none()),
        st.tuples(st.just("declare"), DAY, RULES),
    ),
    min_size=4,
    max_size=20,
)


def histories(terms: dict[str, Any], steps: list[tuple]) -> list[JournalEvent]:
    """What a book decides; what it refuses is left out."""
    book, events = Book("simulated", known_charts()), []
    begun = [
        OPENING,
        *(OpenAccount(name, "USD", "key_test") for name in (A, FBO, EXPENSE, PAYABLE)),
        interest_rule("save", "0", since=DAYS[0].isoformat(), **terms),
    ]
    for command in begun:
        events += kept(carry_out(book, command))
    begin_accruing(book, "save", A)
    for number, (do, place, what) in enumerate(steps):
        day, key = DAYS[place].isoformat(), str(number)
        if do == "move":
            moves = (FBO, what), (A, -what)
            command = posting(key, *moves, effective_at=f"{day}T16:00:00Z")
        elif do == "accrue":
            command = accruing(key, "save", A, day)
        elif do == "capitalize":
            command = capitalizing(key, "save", A, effective_at=f"{day}T16:00:00Z")
        else:
            command = interest_rule("save", "0", since=day, **what)
        events += kept(carry_out(book, command))
    return events


def kept(decision: Any) -> list[JournalEvent]:
    return decision if isinstance(decision, list) else []


@settings(max_examples=200, deadline=None)
@given(terms=RULES, steps=STEPS)
def test_all_that_is_posted_and_what_is_carried_are_the_interest_of_all_days(terms, steps) -> None:
    """From scratch, day by day, by the balances known with the last accrual."""
    events = histories(terms, steps)
    accruals = [event for event in events if isinstance(event, TransactionPosted)
                and event.applied is not None and event.applied.first_day]  # fmt: skip
    if not accruals:
        return
    total = sum(dict(lines(event))[EXPENSE] for event in accruals)
    last = accruals[-1]
    carried = parse_ratio(applied(last).carried or "")
    assert total + carried == slowly(events, accruals)
    by = next(one for one in events if isinstance(one, RuleDeclared)
              and one.version == applied(last).version)  # fmt: skip
    assert (0 <= carried < 1) if by.rounding == "down" else (-1 <= 2 * carried <= 1)


def slowly(events: list[JournalEvent], accruals: list[TransactionPosted]) -> Fraction:
    known = [event for event in events if event.seq < accruals[-1].seq]
    exact = Fraction(0)
    for accrual in accruals:
        of = applied(accrual)
        start, first, last = (
            dt.date.fromisoformat(day or "") for day in (of.period_start, of.first_day, of.last_day)
        )
        for day in DAYS:
            if first <= day <= last:
                balance = -sum(
                    amount
                    for event in known
                    if isinstance(event, TransactionPosted)
                    and event.effective_date <= day.isoformat()
                    for name, amount in lines(event)
                    if name == A
                )
                terms = terms_on(day, known, accrual.seq)
                ends = day, day + dt.timedelta(days=1)
                part, whole = (year_fraction(terms.day_count, start, end) for end in ends)
                exact += yearly(terms, max(balance, 0)) * (whole - part)
    return exact


def terms_on(day: dt.date, known: list[JournalEvent], before: int) -> RuleDeclared:
    """The last that were declared for the day before it was accrued."""
    return [one for one in known if isinstance(one, RuleDeclared)
            and one.seq < before and one.since <= day.isoformat()][-1]  # fmt: skip


def yearly(terms: RuleDeclared, balance: int) -> Fraction:
    steps = [(int(tier.at_least), Fraction(tier.rate)) for tier in terms.tiers]
    if terms.tiering == "volume":
        return balance * [rate for at_least, rate in steps if at_least <= balance][-1]
    slices = pairwise([*steps, (max(balance, steps[-1][0]), Fraction(0))])
    return sum(
        ((min(balance, end) - at_least) * rate for (at_least, rate), (end, _) in slices
         if at_least <= balance),
        Fraction(0),
    )  # fmt: skip


# --- verified again -----------------------------------------------------------------------------


def disputed(events: list[JournalEvent]) -> list[tuple[int, str]]:
    fold = Fold(accruing={A: {"save": Accruing("2026-05-03")}})
    for event in events:
        fold.apply(event)
    return [(seq, name) for seq, name, _, _ in fold.disputed]


@settings(max_examples=50, deadline=None)
@given(terms=RULES, steps=STEPS)
def test_the_fold_works_out_every_true_up_again(terms, steps) -> None:
    assert disputed(histories(terms, steps)) == []


def of_june() -> list[JournalEvent]:
    terms = {"tiers": [Tier(rate="0.0365")], "day_count": "ACT/365F"}
    steps = [("move", 30, 100_000), ("accrue", 39, None), ("move", 35, 50_000), ("accrue", 41, None),
             ("move", 35, 50_000), ("accrue", 42, None)]  # fmt: skip
    return histories(terms, steps)


def but(events: list[JournalEvent], place: int, true_up: str | None) -> list[JournalEvent]:
    """The same, where the accrual at a place states another true-up, and what follows from it."""
    event = events[place]
    assert isinstance(event, TransactionPosted)
    of = applied(event)
    more = parse_ratio(true_up or "0/1") - parse_ratio(of.true_up or "0/1")
    amount, of_all = (str(int(text) + int(more)) for text in (event.entries[0].amount, of.accrued))
    changed = msgspec.structs.replace(
        event,
        entries=[msgspec.structs.replace(entry, amount=amount) for entry in event.entries],
        applied=msgspec.structs.replace(of, true_up=true_up, accrued=of_all),
    )
    return [*events[:place], changed, *events[place + 1 :]]


def test_a_true_up_that_the_entries_do_not_give_is_found() -> None:
    events = of_june()
    assert disputed(events) == []
    for other in ("31/1", "0/1", None):
        found = but(events, len(events) - 1, other)
        assert disputed(found) == [(len(events), "true-up")], other


def test_what_was_accrued_before_true_ups_were_made_verifies_as_ever() -> None:
    """Nothing was made up for by it, and the first accrual that states one goes on from it."""
    [*before, first, moved, second, again, _] = of_june()
    old = but([*before, first, moved, second], len(before), None)
    [*old, _, silent] = but([*old], len(before) + 2, None)
    old = [*old, moved, silent]
    assert disputed(old) == []
    assert disputed([*old, again]) == []


def test_what_an_event_said_before_true_ups_were_made_is_byte_for_byte_the_same() -> None:
    old = (
        b'{"rule":"save","version":1,"account":"customer:1:wallet","first_day":"2026-06-01",'
        b'"last_day":"2026-06-10","interest":"301/3","period_start":"2026-06-01",'
        b'"accrued":"100","carried":"1/3"}'
    )
    assert msgspec.json.encode(msgspec.json.decode(old, type=Applied)) == old
