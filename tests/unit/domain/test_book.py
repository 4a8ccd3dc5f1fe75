"""The book's rules: what is decided, what is refused, and in which order of precedence."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest

from ledger_service.contract.events import Context, Entry, TransactionPosted
from ledger_service.domain.book import Replay
from ledger_service.domain.commands import ChangeAccount, OpenAccount, PostTransaction
from ledger_service.domain.errors import REFUSALS, Refusal
from ledger_service.domain.period_commands import AttestDay, ClosePeriod, SoftClosePeriod
from tests.ledger_book import NOW, OPENING, carry_out, entries, open_book, posting, reversing

A, B, FBO = "customer:1:wallet", "customer:2:wallet", "bank:fbo"


def refused(decision) -> str:
    assert isinstance(decision, Refusal), decision
    assert decision.detail["message"] == REFUSALS[decision.code]
    return decision.code


def posted(decision) -> TransactionPosted:
    assert isinstance(decision, list), decision
    return decision[0]


def test_a_command_wrong_in_every_way_is_refused_for_one_reason_after_another() -> None:
    """Precedence: mend the reason given, and the next one in REFUSALS is given."""
    book = open_book(A, B, FBO, floor="0")
    for number in range(3, 8):
        carry_out(
            book, OpenAccount(f"customer:{number}:wallet", "USD", "key_test", None, "0", "10")
        )
    carry_out(book, ChangeAccount("customer:3:wallet", "closed", "ended", "key_test"))
    carry_out(book, ChangeAccount("customer:4:wallet", "frozen", "hold", "key_test"))
    carry_out(book, posting("used", (FBO, 5), (B, -5)))
    for command in (ClosePeriod("2026-05-31", "key_test"), AttestDay("2026-06-03", "s", "key_test"),
                    SoftClosePeriod("2026-06-30", "key_test")):  # fmt: skip
        assert isinstance(carry_out(book, command), list)

    def wrong(*mended: str) -> PostTransaction:
        """A posting with every mistake but the mended."""
        ok = set(mended)
        other = "unknown_currency" in ok
        debit = (
            "customer:9:x"
            if "unknown_account" not in ok
            else "receivable:shortfall_eur"
            if "currency_differs" not in ok
            else "customer:3:wallet"
            if "account_closed" not in ok
            else "customer:4:wallet"
            if "account_frozen" not in ok
            else A
            if "floor_passed" not in ok
            else B
        )
        lines = [
            Entry(debit, "debit", "20" if "floor_passed" not in ok else "5", "USD"),
            Entry("customer:5:wallet", "credit", "20" if "floor_passed" not in ok else "5", "USD"),
            Entry(FBO, "debit", "20", "USD"),
            Entry("customer:5:wallet", "credit", "20", "USD"),
        ]
        if "unbalanced" not in ok:
            lines[1] = Entry("customer:5:wallet", "credit", "19", "USD")
        if not other:
            lines.append(Entry(A, "debit", "1", "GBP"))
        if "bad_amount" not in ok:
            lines[0] = Entry(debit, "debit", "1.5", "USD")
        if "too_few_entries" not in ok:
            lines = lines[:1]
        metadata = {"memo_code": "x" * 65 if "metadata_too_long" not in ok else "123-45-6789"}
        if "personal_data_refused" in ok:
            metadata = {"memo_code": "fine"}
        if "undeclared_metadata" not in ok:
            metadata["note"] = "y"
        return posting(
            "used" if "idempotency_conflict" not in ok else "new",
            entries=lines,
            kind="gift" if "unknown_kind" not in ok else "transfer",
            context=Context(counterparty_country="usa" if "bad_context" not in ok else "US"),
            metadata=metadata,
            effective_at="yesterday"
            if "bad_effective_at" not in ok
            else "2026-07-09T00:00:00Z"
            if "effective_in_future" not in ok
            else "2026-05-20T12:00:00Z"
            if "period_closed" not in ok
            else "2026-06-03T12:00:00Z"
            if "day_attested" not in ok
            else "2026-06-04T12:00:00Z"
            if "period_soft_closed" not in ok
            else None,
        )

    found: list[str] = []
    while isinstance(decision := book.decide(wrong(*found), NOW), Refusal):
        assert decision.code not in found
        found.append(decision.code)
        if decision.code == "ceiling_passed":
            break
    assert found == [
        "idempotency_conflict",
        "unknown_kind",
        "too_few_entries",
        "bad_amount",
        "unknown_currency",
        "unbalanced",
        "bad_context",
        "undeclared_metadata",
        "metadata_too_long",
        "personal_data_refused",
        "bad_effective_at",
        "effective_in_future",
        "period_closed",
        "day_attested",
        "period_soft_closed",
        "unknown_account",
        "currency_differs",
        "account_closed",
        "account_frozen",
        "floor_passed",
        "ceiling_passed",
    ]
    assert found == sorted(found, key=list(REFUSALS).index)


@pytest.mark.parametrize("amount", ["0", "-5", "1e2", "1.0", "+5", "007", "", str(2**63), "５"])
def test_an_amount_is_digits_of_minor_units(amount: str) -> None:
    book = open_book(A, B)
    lines = [Entry(A, "debit", amount, "USD"), Entry(B, "credit", amount, "USD")]
    assert refused(book.decide(posting("k", entries=lines), NOW)) == "bad_amount"


@pytest.mark.parametrize(
    "effective_at",
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2026-13-01",
    ],
)
def test_when_it_counts_is_a_moment_that_every_time_zone_can_tell(effective_at: str) -> None:
    book = open_book(A, B)
    for imposed in (False, True):
        command = posting("k", (A, 5), (B, -5), effective_at=effective_at, imposed=imposed)
        assert refused(book.decide(command, NOW)) == "bad_effective_at"


def test_the_same_key_replays_and_other_content_conflicts() -> None:
    book = open_book(A, B)
    first = posting("k", (A, 5), (B, -5))
    seq = posted(carry_out(book, first)).seq
    carry_out(book, ChangeAccount(A, "closed", "x", "key_test"))
    assert book.decide(first, NOW) == Replay(seq)
    conflict = book.decide(posting("k", (A, 6), (B, -6)), NOW)
    assert refused(conflict) == "idempotency_conflict"
    assert isinstance(conflict, Refusal)
    assert conflict.detail["seq"] == seq


def test_the_key_itself_is_nowhere_in_the_event() -> None:
    book = open_book(A, B)
    key = "123-45-6789 of Jane"
    event = posted(book.decide(posting(key, (A, 5), (B, -5)), NOW))
    assert b"Jane" not in msgspec.json.encode(event)
    assert b"6789" not in msgspec.json.encode(event).replace(event.idempotency_digest.encode(), b"")


def test_a_floor_holds_for_the_transaction_as_a_whole_and_lets_an_account_recover() -> None:
    book = open_book(A, B, FBO, floor="0")
    over = entries((A, 5), (B, -5), (FBO, 5), (A, -5))
    assert isinstance(book.decide(posting("whole", entries=over), NOW), list)
    assert refused(book.decide(posting("bare", (A, 5), (B, -5)), NOW)) == "floor_passed"
    carry_out(book, OpenAccount("bank:operating", "USD", "key_test", None, "10"))
    assert isinstance(carry_out(book, posting("back", ("bank:operating", 3), (B, -3))), list)


def test_limits_are_exact_to_the_minor_unit() -> None:
    book = open_book(A, FBO, floor="0")
    carry_out(book, OpenAccount(B, "USD", "key_test", None, "-3", "10"))
    carry_out(book, posting("in", (FBO, 7), (A, -7)))
    assert refused(book.decide(posting("a", (A, 8), (FBO, -8)), NOW)) == "floor_passed"
    assert isinstance(book.decide(posting("b", (A, 7), (FBO, -7)), NOW), list)
    assert refused(book.decide(posting("c", (B, 4), (FBO, -4)), NOW)) == "floor_passed"
    assert isinstance(book.decide(posting("d", (B, 3), (FBO, -3)), NOW), list)
    assert refused(book.decide(posting("e", (FBO, 11), (B, -11)), NOW)) == "ceiling_passed"
    assert isinstance(book.decide(posting("f", (FBO, 10), (B, -10)), NOW), list)


def test_what_the_outside_world_imposes_is_booked_and_the_shortfall_is_a_receivable() -> None:
    book = open_book(A, FBO, floor="0")
    carry_out(book, posting("in", (FBO, 30), (A, -30)))
    carry_out(book, ChangeAccount(A, "frozen", "hold", "key_test"))
    decision = carry_out(book, posting("ret", (A, 100), (FBO, -100), kind="return", imposed=True))
    event = posted(decision)
    assert event.imposed
    assert [(e.account, e.side, e.amount) for e in event.entries[2:]] == [
        ("receivable:shortfall", "debit", "70"),
        (A, "credit", "70"),
    ]
    assert book.accounts[A].balance == 0
    assert book.accounts["receivable:shortfall"].balance == 70


def test_reversals_never_exceed_the_original_and_their_parts_sum_to_it() -> None:
    book = open_book(A, B, "customer:3:wallet", FBO)
    lines = ((FBO, 100), (A, -33), (B, -33), ("customer:3:wallet", -34))
    seq = posted(carry_out(book, posting("k", *lines))).seq
    for number, amount in enumerate((7, 1, 50, 41)):
        event = posted(carry_out(book, reversing(f"r{number}", seq, amount)))
        assert event.reverses == seq
        assert event.kind == "reversal"
        assert sum(int(e.amount) for e in event.entries if e.side == "debit") == amount
    assert refused(book.decide(reversing("r9", seq, 2), NOW)) == "reversal_exceeds"
    carry_out(book, reversing("last", seq))
    assert refused(book.decide(reversing("more", seq), NOW)) == "reversal_exceeds"
    assert {
        name: account.balance for name, account in book.accounts.items() if account.balance
    } == {}
    assert refused(book.decide(reversing("again", book.seq), NOW)) in (
        "unknown_transaction",
        "is_a_reversal",
    )


def test_a_reversal_counts_when_it_is_executed() -> None:
    book = open_book(A, B)
    early = "2026-06-01T12:00:00Z"
    seq = posted(carry_out(book, posting("k", (A, 5), (B, -5), effective_at=early))).seq
    event = posted(carry_out(book, reversing("r", seq)))
    assert event.effective_date == "2026-07-01"
    assert event.approval == "apr_test"


@pytest.mark.parametrize(
    ("moment", "effective", "business"),
    [
        ("2026-07-01T20:59:59Z", "2026-07-01", "2026-07-01"),
        ("2026-07-01T21:00:00Z", "2026-07-01", "2026-07-02"),
        ("2026-07-02T03:30:00Z", "2026-07-01", "2026-07-02"),
        ("2026-06-19T16:00:00Z", "2026-06-19", "2026-06-22"),
        ("2026-01-17T00:00:00-05:00", "2026-01-17", "2026-01-20"),
    ],
)
def test_business_date_follows_zone_cut_off_and_holidays(moment, effective, business) -> None:
    book = open_book(A, B)
    event = posted(book.decide(posting("k", (A, 5), (B, -5), effective_at=moment), NOW))
    assert (event.effective_date, event.business_date) == (effective, business)


def test_recorded_time_never_goes_back() -> None:
    book = open_book(A, B)
    first = posted(carry_out(book, posting("a", (A, 5), (B, -5))))
    second = posted(carry_out(book, posting("b", (A, 5), (B, -5)), NOW - dt.timedelta(hours=1)))
    assert second.recorded_at == first.recorded_at


def test_personal_numbers_are_refused_wherever_a_caller_chooses_text() -> None:
    book = open_book(A, B)
    ssn, account = "123-45-6789", "4111 1111 1111 1111"
    assert refused(book.decide(OpenAccount(f"customer:{ssn}:wallet", "USD", "k"), NOW)) == (
        "personal_data_refused"
    )
    for context in (Context(rail_reference=account), Context(counterparty=ssn)):
        command = posting("k", (A, 5), (B, -5), context=context)
        assert refused(book.decide(command, NOW)) == "personal_data_refused"
    metadata = {"invoice": ssn}
    command = posting("k", (A, 5), (B, -5), metadata=metadata)
    assert refused(book.decide(command, NOW)) == "personal_data_refused"
    assert refused(book.decide(ChangeAccount(A, "frozen", ssn, "k"), NOW)) == "bad_reason"


def test_opening_is_by_the_chart_and_repeating_it_changes_nothing() -> None:
    book = open_book(A)
    assert (
        refused(book.decide(OpenAccount("planet:mars", "USD", "k"), NOW)) == "account_not_in_chart"
    )
    assert isinstance(book.decide(OpenAccount(A, "USD", "k"), NOW), Replay)
    assert refused(book.decide(OpenAccount(A, "EUR", "k"), NOW)) == "account_exists"
    assert book.decide(OPENING, NOW) == Replay(1)
    other = msgspec.structs.replace(OPENING, cut_off="18:00")
    assert refused(book.decide(other, NOW)) == "ledger_exists"


def test_only_an_empty_account_is_closed_and_for_good() -> None:
    book = open_book(A, B)
    carry_out(book, posting("k", (A, 5), (B, -5)))
    assert refused(book.decide(ChangeAccount(A, "closed", "x", "k"), NOW)) == "account_not_empty"
    carry_out(book, posting("l", (B, 5), (A, -5)))
    carry_out(book, ChangeAccount(A, "closed", "x", "k"))
    assert refused(book.decide(ChangeAccount(A, "open", "x", "k"), NOW)) == "account_closed"
