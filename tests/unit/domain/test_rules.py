"""Posting rules: fees charged, interest accrued and capitalized, each amount derivable again."""

from __future__ import annotations

import datetime as dt
import itertools
from fractions import Fraction

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from ledger_service.contract.events import RuleDeclared, TransactionPosted
from ledger_service.contract.rules import Tier
from ledger_service.domain import legs
from ledger_service.domain.book import Book, Replay
from ledger_service.domain.commands import ChangeAccount, OpenAccount
from ledger_service.domain.errors import REFUSALS, Refusal
from ledger_service.domain.interest import Accruing
from ledger_service.domain.period_commands import ClosePeriod
from ledger_service.domain.rule_commands import (
    DeclareRule,
    WithdrawRule,
    charge_fee,
)
from ledger_service.engine.fold import Fold
from tests.ledger_book import (
    NOW,
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
    reversing,
)

A, B, FBO = "customer:1:wallet", "customer:2:wallet", "bank:fbo"
EXPENSE, PAYABLE, FEES, PARTNER = (
    "expense:interest", "payable:interest", "income:fees", "payable:partner",
)  # fmt: skip
JUNE = [f"2026-06-{day:02d}" for day in range(1, 31)]


def refused(decision) -> str:
    assert isinstance(decision, Refusal), decision
    assert decision.detail["message"] == REFUSALS[decision.code]
    return decision.code


def posted(decision) -> TransactionPosted:
    assert isinstance(decision, list), decision
    [event] = decision
    return event


def lines(event: TransactionPosted) -> list[tuple[str, int]]:
    return [
        (entry.account, int(entry.amount) if entry.side == "debit" else -int(entry.amount))
        for entry in event.entries
    ]


@pytest.fixture
def book() -> Book:
    return open_book(A, B, FBO, EXPENSE, PAYABLE, FEES, PARTNER, floor="0")


def fund(book: Book, amount: int, day: str, account: str = A) -> None:
    key = f"fund {account} {day} {amount} {book.seq}"
    command = posting(key, (FBO, amount), (account, -amount), effective_at=f"{day}T16:00:00Z")
    assert isinstance(carry_out(book, command), list)


# --- parts of a whole ---------------------------------------------------------------------------

WEIGHTS = st.lists(st.integers(0, 10**9), min_size=1, max_size=12).filter(any)


@given(amount=st.integers(0, 2**63 - 1), weights=WEIGHTS)
def test_parts_sum_to_the_whole_and_none_is_a_unit_away(amount, weights) -> None:
    shares = legs.split(amount, weights)
    assert sum(shares) == amount
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - Fraction(amount * weight, sum(weights))) < 1


@given(amount=st.integers(0, 10**6), weights=WEIGHTS, data=st.data())
def test_the_order_of_parts_matters_among_equal_remainders_alone(amount, weights, data) -> None:
    order = data.draw(st.permutations(range(len(weights))))
    shares, others = (
        legs.split(amount, weights),
        legs.split(amount, [weights[place] for place in order]),
    )
    remainders = [amount * weight % sum(weights) for weight in weights]
    assert sorted(zip(remainders, shares, strict=True)) == sorted(
        zip([remainders[place] for place in order], others, strict=True)
    )
    if len(set(remainders)) == len(remainders):
        assert others == [shares[place] for place in order]


# --- fees ---------------------------------------------------------------------------------------

PERCENT = Tier(rate="0.029", fixed="30")
GRADUATED = (Tier(rate="0.01"), Tier("10000", rate="0.005"), Tier("20000", fixed="5"))


@pytest.mark.parametrize(
    ("tiers", "terms", "amount", "fee"),
    [
        ([Tier(fixed="250")], {}, None, 250),
        ([PERCENT], {}, 10_000, 320),
        ([PERCENT], {"minimum": "50"}, 100, 50),
        ([PERCENT], {"maximum": "300"}, 10_000, 300),
        ([Tier(rate="0.5")], {}, 5, 2),
        ([Tier(rate="0.5")], {"rounding": "half_up"}, 5, 3),
        ([Tier(rate="0.5")], {"rounding": "down"}, 7, 3),
        ([Tier(rate="0.000000000001")], {}, 1_500_000_000_000, 2),
        (GRADUATED, {}, 9_999, 100),
        (GRADUATED, {}, 15_000, 125),
        (GRADUATED, {}, 50_000, 155),
        (GRADUATED, {"tiering": "volume"}, 15_000, 75),
        (GRADUATED, {"tiering": "volume"}, 50_000, 5),
        ([Tier("100", fixed="7")], {}, 100, 7),
    ],
)
def test_a_fee_is_what_its_tiers_ask(book, tiers, terms, amount, fee) -> None:
    carry_out(book, fee_rule("card", *tiers, **terms))
    fund(book, 1_000, "2026-06-02")
    event = posted(carry_out(book, charging("k", "card", A, amount)))
    assert (event.kind, lines(event)) == ("fee", [(A, fee), (FEES, -fee)])
    assert event.applied is not None
    assert event.applied.of_amount == (None if amount is None else str(amount))
    assert carry_out(book, charging("k", "card", A, amount)) == Replay(event.seq)


def test_a_fee_is_split_among_parties_and_loses_no_cent(book) -> None:
    shares = parts((FEES, 2), (PARTNER, 1))
    carry_out(book, fee_rule("card", Tier(rate="0.01"), credit=shares))
    fund(book, 1_000, "2026-06-02")
    event = posted(carry_out(book, charging("k", "card", A, 1_000)))
    assert lines(event) == [(A, 10), (FEES, -7), (PARTNER, -3)]


def test_a_fee_is_refused_by_name(book) -> None:
    carry_out(book, fee_rule("card", Tier("100", rate="0.01")))
    carry_out(book, fee_rule("huge", Tier(rate="1000")))
    carry_out(book, interest_rule("save", "0.04"))
    carry_out(book, OpenAccount("customer:3:eur", "EUR", "key_test"))

    def why(rule: str, account: str, amount: int | None, **options) -> str:
        return refused(carry_out(book, charging("k", rule, account, amount, **options)))

    assert why("card", A, -1) == "bad_amount"
    assert why("card", A, 5, metadata={"x": "y"}) == "undeclared_metadata"
    assert why("card", A, 5, effective_at="soon") == "bad_effective_at"
    assert why("none", A, 5) == "unknown_rule"
    assert why("save", A, 5) == "not_of_this_kind"
    assert why("card", A, 500, effective_at="2026-05-31T12:00:00Z") == "rule_not_in_force"
    assert why("card", A, 99) == "nothing_due"
    assert why("huge", A, 2**60) == "amount_too_large"
    assert why("card", "customer:9:wallet", 500) == "unknown_account"
    assert why("card", "customer:3:eur", 500) == "currency_differs"
    assert why("card", A, 500) == "floor_passed"


def test_a_fee_wrong_in_every_way_is_refused_for_one_reason_after_another(book) -> None:
    """Precedence: mend the reason given, and the next one in REFUSALS is given."""
    carry_out(book, fee_rule("card", Tier("100", rate="0.1"), Tier("1000", rate="1000")))
    carry_out(book, interest_rule("save", "0.04"))
    for number, status in ((3, "closed"), (4, "frozen")):
        carry_out(book, OpenAccount(f"customer:{number}:wallet", "USD", "key_test", None, "0"))
        carry_out(book, ChangeAccount(f"customer:{number}:wallet", status, "ended", "key_test"))
    carry_out(book, OpenAccount("customer:5:eur", "EUR", "key_test"))
    carry_out(book, ClosePeriod("2026-05-20", "key_test"))
    amounts = {"bad_amount": "x", "nothing_due": "99", "amount_too_large": str(2**62)}
    accounts = {
        "unknown_account": "customer:9:wallet", "currency_differs": "customer:5:eur",
        "account_closed": "customer:3:wallet", "account_frozen": "customer:4:wallet",
    }  # fmt: skip
    rules = {"unknown_rule": "none", "not_of_this_kind": "save"}
    moments = {
        "bad_effective_at": "soon", "effective_in_future": "2026-07-09T00:00:00Z",
        "period_closed": "2026-05-20T12:00:00Z", "rule_not_in_force": "2026-05-31T12:00:00Z",
    }  # fmt: skip

    def wrong(mended: list[str]):
        def first(ways: dict[str, str], right: str) -> str:
            return next((text for code, text in ways.items() if code not in mended), right)

        return charge_fee(
            "simulated", "k", rule=first(rules, "card"), account=first(accounts, A),
            amount=first(amounts, "500"), actor="key_test",
            effective_at=first(moments, "2026-07-01T12:00:00Z"),
            metadata={} if "undeclared_metadata" in mended else {"x": "y"},
        )  # fmt: skip

    found: list[str] = []
    while "floor_passed" not in found:
        found.append(refused(book.decide(wrong(found), NOW)))
    assert len(found) == 15
    assert found == sorted(found, key=list(REFUSALS).index)


def test_an_accrual_wrong_in_every_way_is_refused_for_one_reason_after_another(book) -> None:
    carry_out(book, interest_rule("save", "0.0365", since="2026-06-10"))
    carry_out(book, fee_rule("card", Tier(fixed="5")))
    begin_accruing(book, "save", A)
    fund(book, 100_000, "2026-06-10")
    carry_out(book, accruing("first", "save", A, "2026-06-20"))
    steps = [
        ("bad_day", accruing("k", "none", "customer:9:wallet", "June")),
        ("bad_day", accruing("k", "none", "customer:9:wallet", "2026-06-01", since="2026-06-02")),
        ("day_not_over", accruing("k", "none", "customer:9:wallet", "2026-07-01")),
        ("unknown_rule", accruing("k", "none", "customer:9:wallet", "2026-06-01")),
        ("not_of_this_kind", accruing("k", "card", "customer:9:wallet", "2026-06-01")),
        ("rule_not_in_force", accruing("k", "save", "customer:9:wallet", "2026-06-01")),
        ("already_accrued", accruing("k", "save", A, "2026-06-20")),
        ("unknown_account", accruing("k", "save", "customer:9:wallet", "2026-06-21")),
        ("nothing_due", accruing("k", "save", B, "2026-06-21")),
    ]
    begin_accruing(book, "save", B)
    assert [refused(book.decide(command, NOW)) for _, command in steps] == [
        code for code, _ in steps
    ]


# --- declaring ----------------------------------------------------------------------------------


def test_a_rule_has_versions_each_from_a_day_on_until_it_is_withdrawn(book) -> None:
    first = carry_out(book, fee_rule("card", Tier(fixed="10")))
    assert carry_out(book, fee_rule("card", Tier(fixed="10"))) == Replay(first[0].seq)
    july = fee_rule("card", Tier(fixed="20"))
    july = DeclareRule("card", "2026-06-20", "fee", "USD", july.tiers, july.debit, july.credit, "k")
    [second] = carry_out(book, july)
    assert isinstance(second, RuleDeclared)
    assert second.version == 2
    withdraw = WithdrawRule("card", "2026-06-25", "k")
    [third] = carry_out(book, withdraw)
    assert carry_out(book, withdraw) == Replay(third.seq)
    fund(book, 1_000, "2026-06-02")

    def fee(day: str):
        decision = book.decide(charging(day, "card", A, None, effective_at=f"{day}T12:00:00Z"), NOW)
        return lines(posted(decision))[0][1] if isinstance(decision, list) else refused(decision)

    assert [fee(f"2026-06-{day}") for day in (19, 20, 24, 25)] == [10, 20, 20, "rule_not_in_force"]
    assert refused(carry_out(book, WithdrawRule("none", "2026-06-25", "k"))) == "unknown_rule"
    assert refused(carry_out(book, WithdrawRule("card", "June", "k"))) == "bad_day"


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"since": "June"}, "since"),
        ({"tiers": []}, "tiers"),
        ({"tiers": [Tier(rate="4%")]}, "rate"),
        ({"tiers": [Tier(rate="1e-2")]}, "rate"),
        ({"tiers": [Tier("10"), Tier("10")]}, "above"),
        ({"tiers": [Tier(fixed="5")]}, "fixed"),
        ({"minimum": "5"}, "bounds"),
        ({"day_count": None}, "day_count"),
        ({"debit": []}, "parts"),
        ({"debit": parts((EXPENSE, 0))}, "weight"),
        ({"debit": parts((EXPENSE, 1), (FEES, 1))}, "one account"),
        ({"debit": parts(("{account}", 1))}, "never"),
        ({"debit": parts((PAYABLE, 1))}, "one part alone"),
        ({"debit": parts(("{other}", 1))}, "names an account"),
    ],
)
def test_terms_that_do_not_fit_are_refused_in_words(book, terms, words) -> None:
    decision = carry_out(book, interest_rule("save", "0.04", **terms))
    assert refused(decision) == "bad_rule"
    assert words in decision.detail["problem"]


def test_a_rule_s_accounts_are_open_in_its_currency_and_interest_keeps_them(book) -> None:
    def why(**terms) -> str:
        return refused(carry_out(book, interest_rule("save", "0.04", **terms)))

    assert refused(carry_out(book, interest_rule("Save!", "0.04"))) == "bad_rule_code"
    assert refused(carry_out(book, fee_rule("card", minimum="9", maximum="8"))) == "bad_rule"
    assert why(debit=parts(("expense:other", 1))) == "unknown_account"
    assert why(debit=parts(("receivable:shortfall_eur", 1))) == "currency_differs"
    carry_out(book, interest_rule("save", "0.04"))
    assert why(debit=parts((FEES, 1))) == "bad_rule"
    assert why(balances="negative") == "bad_rule"
    assert isinstance(carry_out(book, interest_rule("save", "0.05")), list)


# --- interest -----------------------------------------------------------------------------------


def test_a_month_s_interest_accrues_by_day_and_is_capitalized(book) -> None:
    carry_out(book, interest_rule("save", "0.0365"))
    begin_accruing(book, "save", A)
    fund(book, 100_000, "2026-06-01")
    for day in JUNE:
        event = posted(carry_out(book, accruing(day, "save", A, day)))
        assert (event.kind, event.effective_date) == ("interest", day)
        assert lines(event) == [(EXPENSE, 10), (PAYABLE, -10)]
    assert event.applied is not None
    assert (event.applied.accrued, event.applied.carried) == ("300", "0/1")
    assert refused(carry_out(book, accruing("x", "save", A, "2026-06-30"))) == "already_accrued"
    assert refused(carry_out(book, accruing("x", "save", A, "2026-07-01"))) == "day_not_over"
    event = posted(carry_out(book, capitalizing("c", "save", A)))
    assert lines(event) == [(PAYABLE, 300), (A, -300)]
    assert book.accounts[PAYABLE].balance == 0
    assert refused(carry_out(book, capitalizing("d", "save", A))) == "nothing_due"
    assert refused(carry_out(book, reversing("r", event.seq))) == "is_interest"


def test_days_with_less_than_a_minor_unit_are_accrued_with_those_that_follow(book) -> None:
    carry_out(book, interest_rule("save", "0.0365", rounding="down"))
    begin_accruing(book, "save", A)
    fund(book, 4_000, "2026-06-01")  # 0.4 a day
    found = [carry_out(book, accruing(day, "save", A, day)) for day in JUNE[:5]]
    assert [isinstance(one, list) for one in found] == [False, False, True, False, True]
    assert refused(found[0]) == "nothing_due"
    first, last = (posted(found[place]).applied for place in (2, 4))
    assert first is not None
    assert last is not None
    assert (first.first_day, first.last_day, first.carried) == ("2026-06-01", "2026-06-03", "1/5")
    assert (last.first_day, last.last_day, last.carried) == ("2026-06-04", "2026-06-05", "0/1")


def test_a_customer_who_comes_later_accrues_from_the_day_given(book) -> None:
    carry_out(book, interest_rule("save", "0.0365"))
    begin_accruing(book, "save", A)
    fund(book, 100_000, "2026-06-01")
    event = posted(carry_out(book, accruing("k", "save", A, "2026-06-20", since="2026-06-11")))
    assert lines(event) == [(EXPENSE, 100), (PAYABLE, -100)]
    late = carry_out(book, accruing("l", "save", A, "2026-06-10", since="2026-06-01"))
    assert refused(late) == "already_accrued"


def test_interest_of_a_closed_day_is_booked_now_and_keeps_its_day(book) -> None:
    carry_out(book, interest_rule("save", "0.0365"))
    begin_accruing(book, "save", A)
    fund(book, 100_000, "2026-06-01")
    carry_out(book, ClosePeriod("2026-06-30", "usr_1"))
    event = posted(carry_out(book, accruing("k", "save", A, "2026-06-30")))
    assert (event.effective_date, event.value_date) == ("2026-07-01", "2026-06-30")


def test_a_new_rate_holds_from_its_day_on_and_a_withdrawn_rule_bears_nothing(book) -> None:
    carry_out(book, interest_rule("save", "0.0365"))
    begin_accruing(book, "save", A)
    fund(book, 100_000, "2026-06-01")
    carry_out(book, interest_rule("save", "0.073", since="2026-06-11"))
    carry_out(book, WithdrawRule("save", "2026-06-21", "k"))
    assert refused(carry_out(book, accruing("k", "save", A, "2026-06-30"))) == "rule_not_in_force"
    event = posted(carry_out(book, accruing("k", "save", A, "2026-06-20")))
    assert lines(event)[0] == (EXPENSE, 10 * 10 + 10 * 20)


def test_overdrawn_balances_bear_interest_by_a_rule_of_their_own() -> None:
    book = open_book(A, FBO, "receivable:interest", "income:interest", EXPENSE, PAYABLE)
    own = {"debit": parts(("receivable:interest", 1)), "credit": parts(("income:interest", 1))}
    carry_out(book, interest_rule("owe", "0.365", balances="negative", **own))
    carry_out(book, interest_rule("save", "0.0365"))
    for rule in ("owe", "save"):
        begin_accruing(book, rule, A)
    moves = [(FBO, -50_000), (A, 50_000)]
    carry_out(book, posting("out", *moves, effective_at="2026-06-10T12:00:00Z"))
    event = posted(carry_out(book, accruing("k", "owe", A, "2026-06-19")))
    assert lines(event) == [("receivable:interest", 500), ("income:interest", -500)]
    assert refused(carry_out(book, accruing("l", "save", A, "2026-06-19"))) == "nothing_due"
    event = posted(carry_out(book, capitalizing("c", "owe", A)))
    assert lines(event) == [(A, 500), ("receivable:interest", -500)]


def test_a_loan_s_interest_is_what_others_owe() -> None:
    loan = "receivable:loan:1"
    book = open_book(loan, FBO, "receivable:interest", "income:interest")
    own = {"debit": parts(("receivable:interest", 1)), "credit": parts(("income:interest", 1))}
    carry_out(book, interest_rule("loan", "0.365", day_count="30/360", **own))
    begin_accruing(book, "loan", loan)
    moves = [(loan, 36_000), (FBO, -36_000)]
    carry_out(book, posting("out", *moves, effective_at="2026-06-01T12:00:00Z"))
    event = posted(carry_out(book, accruing("k", "loan", loan, "2026-06-30")))
    assert lines(event) == [("receivable:interest", 1095), ("income:interest", -1095)]
    event = posted(carry_out(book, capitalizing("c", "loan", loan)))
    assert lines(event) == [(loan, 1095), ("receivable:interest", -1095)]


def test_a_refused_linked_batch_leaves_no_day_accrued(book) -> None:
    carry_out(book, interest_rule("save", "0.0365"))
    begin_accruing(book, "save", A)
    fund(book, 100_000, "2026-06-01")
    book.begin()
    posted(carry_out(book, accruing("k", "save", A, "2026-06-10")))
    book.take_back()
    event = posted(carry_out(book, accruing("l", "save", A, "2026-06-20")))
    assert lines(event) == [(EXPENSE, 200), (PAYABLE, -200)]


CONVENTIONS = ["ACT/360", "ACT/365F", "ACT/ACT", "30/360", "30U/360", "30E/360"]
MOVES = st.lists(st.tuples(st.integers(0, 58), st.integers(1, 300_000)), max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    convention=st.sampled_from(CONVENTIONS),
    rounding=st.sampled_from(["down", "half_up", "half_even"]),
    rate=st.sampled_from(["0.0425", "0.1", "0.000000000001", "0.333333333333"]),
    moves=MOVES,
    asked=st.sets(st.integers(0, 58)),
)
def test_whenever_it_is_accrued_the_sum_is_the_exact_interest_rounded_once(
    convention, rounding, rate, moves, asked
) -> None:
    """Against a slow way: each day's balance, times the rate, times the day's part of a year."""
    first = dt.date(2026, 5, 3)
    days = [(first + dt.timedelta(days=number)).isoformat() for number in range(59)]
    book = open_book(A, FBO, EXPENSE, PAYABLE)
    terms = {"day_count": convention, "rounding": rounding, "since": days[0]}
    carry_out(book, interest_rule("save", rate, **terms))
    begin_accruing(book, "save", A)
    events = []
    for number, amount in moves:
        fund(book, amount, days[number])
    total = 0
    for number in sorted(asked | {58}):
        decision = carry_out(book, accruing(days[number], "save", A, days[number]))
        if isinstance(decision, list):
            events += decision
            total += lines(decision[0])[0][1]
        else:
            assert refused(decision) == "nothing_due"
    exact = _slowly(convention, Fraction(rate), first, moves)
    bounds = {"down": (0, 1), "half_up": (-Fraction(1, 2), Fraction(1, 2))}
    low, high = bounds.get(rounding, bounds["half_up"])
    assert low <= exact - total <= high
    if rounding == "half_even":
        assert total == round(exact)


def _slowly(convention, rate: Fraction, first: dt.date, moves) -> Fraction:
    from ledger_service.domain.day_count import year_fraction

    exact = Fraction(0)
    for number in range(59):
        balance = sum(amount for day, amount in moves if day <= number)
        ends = [first + dt.timedelta(days=end) for end in (number, number + 1)]
        part, whole = (year_fraction(convention, first, end) for end in ends)
        exact += balance * rate * (whole - part)
    return exact


def test_what_the_fold_works_out_again_is_what_was_posted(book) -> None:
    """And an amount, a day or a remainder that the rule does not give is found."""
    import msgspec

    events = []

    def keep(command):
        decision = carry_out(book, command)
        assert isinstance(decision, list), decision
        events.extend(decision)

    opened = open_book(A, B, FBO, EXPENSE, PAYABLE, FEES, PARTNER, floor="0")
    assert opened.seq == book.seq
    for command in (
        interest_rule("save", "0.04"),
        fee_rule("card", Tier(rate="0.01"), credit=parts((FEES, 2), (PARTNER, 1))),
    ):
        keep(command)
    begin_accruing(book, "save", A)
    moves = [(FBO, 100_000), (A, -100_000)]
    keep(posting("in", *moves, effective_at="2026-06-02T12:00:00Z"))
    keep(charging("fee", "card", A, 1_000))
    for day in ("2026-06-10", "2026-06-20"):
        keep(accruing(day, "save", A, day))
    keep(capitalizing("c", "save", A))
    keep(accruing("more", "save", A, "2026-06-30"))

    def fold(changed) -> None:
        found = Fold(accruing={A: {"save": Accruing("2026-06-01")}})
        for event in itertools.chain(_opening(), changed):
            found.apply(event)
        assert found.disputed == []

    fold(events)
    for number, event in enumerate(events):
        if not isinstance(event, TransactionPosted) or event.applied is None:
            continue
        more = [
            msgspec.structs.replace(one, amount=str(int(one.amount) + 1)) for one in event.entries
        ]
        wrong = [msgspec.structs.replace(event, entries=more)]
        for field in ("of_amount", "carried", "accrued", "interest", "period_start"):
            if getattr(event.applied, field) is not None:
                other = "2026-06-09" if field == "period_start" else "77/1"
                value = "777" if field in ("of_amount", "accrued") else other
                changed = msgspec.structs.replace(event.applied, **{field: value})
                wrong.append(msgspec.structs.replace(event, applied=changed))
        for one in wrong:
            with pytest.raises(ValueError):
                fold([*events[:number], one, *events[number + 1 :]])


def _opening():
    from ledger_service.domain.book import Book
    from ledger_service.engine.charts import known_charts
    from tests.ledger_book import OPENING

    book = Book("simulated", known_charts())
    yield from carry_out(book, OPENING)
    for name in (A, B, FBO, EXPENSE, PAYABLE, FEES, PARTNER):
        floor = "0" if name.startswith("customer:") else None
        yield from carry_out(book, OpenAccount(name, "USD", "key_test", None, floor))
