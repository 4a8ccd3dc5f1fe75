"""Periods and attested days: what is closed takes no more entries, and who may still correct."""

from __future__ import annotations

import pytest

from ledger_service.contract.events import (
    PeriodClosed,
    PeriodReopened,
    TransactionPosted,
)
from ledger_service.domain.book import Book, Replay
from ledger_service.domain.closing import Books
from ledger_service.domain.commands import approval_of
from ledger_service.domain.errors import Refusal
from ledger_service.domain.period_commands import (
    AttestDay,
    ClosePeriod,
    ReopenPeriod,
    SoftClosePeriod,
)
from tests.ledger_book import BOOKS, NOW, carry_out, open_book, posting, reversing

A, B, FBO = "customer:1:wallet", "customer:2:wallet", "bank:fbo"
JUNE = "2026-06-30"


def refused(decision) -> str:
    assert isinstance(decision, Refusal), decision
    return decision.code


@pytest.fixture
def book() -> Book:
    book = open_book(A, B, FBO)
    carry_out(book, posting("first", (A, 5), (B, -5), effective_at="2026-06-10T12:00:00Z"))
    return book


def dated(key: str, moment: str, **options):
    return posting(key, (A, 5), (B, -5), effective_at=moment, **options)


def test_a_closed_period_takes_nothing_and_says_from_when_on_it_may_count(book) -> None:
    carry_out(book, ClosePeriod(JUNE, "usr_1"))
    # 03:59 UTC is still the 30th in New York
    late = book.decide(dated("k", "2026-07-01T03:59:59Z"), NOW)
    assert refused(late) == "period_closed"
    assert late.detail["first_open_day"] == "2026-07-01"
    assert isinstance(book.decide(dated("k", "2026-07-01T04:00:00Z"), NOW), list)
    correction = dated("k", "2026-06-30T12:00:00Z", corrects=5, approval="apr_1")
    assert refused(book.decide(correction, NOW)) == "period_closed"


def test_a_soft_closed_period_takes_corrections_alone(book) -> None:
    carry_out(book, SoftClosePeriod(JUNE, "usr_1"))
    assert refused(book.decide(dated("k", "2026-06-30T12:00:00Z"), NOW)) == "period_soft_closed"
    [seq] = [seq for seq in book.originals if seq]
    correction = dated("k", "2026-06-30T12:00:00Z", corrects=seq, approval="apr_1")
    [event] = book.decide(correction, NOW)
    assert isinstance(event, TransactionPosted)
    assert (event.corrects, event.approval) == (seq, "apr_1")
    wrong = dated("l", "2026-06-30T12:00:00Z", corrects=99, approval="apr_1")
    assert refused(book.decide(wrong, NOW)) == "unknown_corrected"


def test_an_approval_of_no_correction_is_refused_and_its_text_kept_nowhere(book) -> None:
    stray = dated("k", "2026-07-01T12:00:00Z", approval="Jane, 123-45-6789")
    assert refused(book.decide(stray, NOW)) == "approval_invalid"


def test_an_attested_day_takes_nothing_while_its_neighbours_do(book) -> None:
    [event] = carry_out(book, AttestDay("2026-06-29", "stm_1", "usr_1"))
    assert refused(book.decide(dated("k", "2026-06-29T12:00:00Z"), NOW)) == "day_attested"
    assert isinstance(book.decide(dated("k", "2026-06-28T12:00:00Z"), NOW), list)
    assert isinstance(book.decide(dated("k", "2026-06-30T12:00:00Z"), NOW), list)
    assert book.decide(AttestDay("2026-06-29", "stm_1", "usr_1"), NOW) == Replay(event.seq)


def test_what_is_imposed_on_a_closed_day_counts_from_now_and_keeps_its_value_date(book) -> None:
    carry_out(book, ClosePeriod(JUNE, "usr_1"))
    [event] = carry_out(book, dated("k", "2026-06-30T12:00:00Z", kind="return", imposed=True))
    assert (event.effective_date, event.value_date) == ("2026-07-01", JUNE)
    [event] = carry_out(book, dated("l", "2026-07-01T12:00:00Z", kind="return", imposed=True))
    assert (event.effective_date, event.value_date) == ("2026-07-01", None)


def test_a_reversal_of_what_is_closed_counts_today(book) -> None:
    carry_out(book, ClosePeriod(JUNE, "usr_1"))
    [seq] = list(book.originals)
    [event] = carry_out(book, reversing("r", seq))
    assert event.effective_date == "2026-07-01"


@pytest.mark.parametrize("command", [SoftClosePeriod, ClosePeriod])
def test_only_days_that_are_over_are_closed_and_never_backwards(book, command) -> None:
    assert refused(book.decide(command("2026-07-01", "usr_1"), NOW)) == "day_not_over"
    assert refused(book.decide(command("30 June", "usr_1"), NOW)) == "bad_day"
    [event] = carry_out(book, command(JUNE, "usr_1"))
    assert carry_out(book, command(JUNE, "usr_1")) == Replay(event.seq)
    assert refused(carry_out(book, command("2026-06-29", "usr_1"))) == "period_closed"


def test_a_day_is_attested_when_it_is_over(book) -> None:
    assert refused(book.decide(AttestDay("2026-07-01", "stm_1", "u"), NOW)) == "day_not_over"
    assert refused(book.decide(AttestDay(JUNE, "123-45-6789", "u"), NOW)) == "bad_reason"


def test_a_closing_states_trial_balance_root_and_checks(book) -> None:
    book.closings[JUNE] = BOOKS
    [event] = book.decide(ClosePeriod(JUNE, "usr_1"), NOW)
    assert isinstance(event, PeriodClosed)
    assert (event.trial_balance, event.tree_root) == (BOOKS.trial_balance, "00" * 32)
    assert (event.tree_size, event.checks) == (book.seq, ["debits_equal_credits"])


def test_a_ledger_without_accounts_has_no_books_to_close() -> None:
    book = open_book()
    book.closings[JUNE] = Books([], "00" * 32, ["debits_equal_credits"])
    assert refused(book.decide(ClosePeriod(JUNE, "usr_1"), NOW)) == "nothing_to_close"


def test_what_is_reopened_takes_corrections_again_and_can_be_closed_anew(book) -> None:
    carry_out(book, ClosePeriod(JUNE, "usr_1"))
    for day in ("2026-06-15", "2026-06-29"):
        carry_out(book, AttestDay(day, "stm_1", "usr_1"))
    reopen = ReopenPeriod("2026-06-15", "late_invoice", "apr_2", "usr_1")
    [event] = carry_out(book, reopen)
    assert isinstance(event, PeriodReopened)
    assert event.approval == "apr_2"
    [seq] = list(book.originals)
    for day in ("2026-06-15", "2026-06-29", "2026-06-30"):
        moment = f"{day}T12:00:00Z"
        assert refused(book.decide(dated("k", moment), NOW)) == "period_soft_closed"
        assert isinstance(
            book.decide(dated("k", moment, corrects=seq, approval="apr_3"), NOW), list
        )
    assert refused(book.decide(dated("k", "2026-06-14T12:00:00Z"), NOW)) == "period_closed"
    assert isinstance(carry_out(book, ClosePeriod(JUNE, "usr_1")), list)
    assert refused(book.decide(dated("k", "2026-06-20T12:00:00Z"), NOW)) == "period_closed"


def test_only_what_is_closed_is_reopened(book) -> None:
    reopen = ReopenPeriod("2026-06-15", "late_invoice", "apr_2", "usr_1")
    assert refused(book.decide(reopen, NOW)) == "period_not_closed"


def test_an_approval_fits_one_correction_or_reopening_and_no_other() -> None:
    correction = dated("k", "2026-06-30T12:00:00Z", corrects=5, approval="apr_1")
    others = [
        dated("k", "2026-06-29T12:00:00Z", corrects=5, approval="apr_1"),
        dated("k", "2026-06-30T12:00:00Z", corrects=6, approval="apr_1"),
        posting("k", (A, 6), (B, -6), effective_at="2026-06-30T12:00:00Z", corrects=5),
        ReopenPeriod("2026-06-15", "late_invoice", "apr_1", "usr_1"),
        ReopenPeriod("2026-06-16", "late_invoice", "apr_1", "usr_1"),
        reversing("k", 5),
    ]
    digests = [approval_of("simulated", command) for command in (correction, *others)]
    assert len({digest for _, digest in filter(None, digests)}) == 7
    assert approval_of("simulated", dated("k", "2026-06-30T12:00:00Z")) is None


def test_periods_loaded_from_their_events_are_those_that_were_there(book) -> None:
    found = []
    for command in (
        SoftClosePeriod("2026-06-10", "u"),
        AttestDay("2026-06-12", "s", "u"),
        ClosePeriod("2026-06-20", "u"),
        ReopenPeriod("2026-06-15", "x", "apr", "u"),
    ):
        found += carry_out(book, command)
    fresh = open_book()
    fresh.load_ledger(book.terms.opened, book.seq, book.recorded_at, found)
    assert fresh.periods == book.periods
