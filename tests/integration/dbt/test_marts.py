"""The marts from facts, in one build, and again from the same facts in pieces and out of order."""

from __future__ import annotations

import datetime as dt
import itertools
from collections import defaultdict
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ledger_service.contract.money import EXPONENTS
from ledger_service.domain.calendar import is_banking_day
from pipelines.checks.identities import check_identities
from tests.integration.dbt import histories, oracles
from tests.integration.dbt.histories import ALL, HELD, RANDOM
from tests.integration.dbt.warehouse import Facts, Row, Warehouse, merged

MARTS = (
    "accounts", "transactions", "entries", "account_balances_daily", "account_balances_current",
    "trial_balance_daily", "parties", "statement_lines", "reconciliation_matches",
    "reconciliation_breaks", "reconciliation_days", "alert_candidates", "alert_candidate_entries",
    "ctr_candidates", "build", "hold_legs", "holds", "periods", "account_activity_monthly",
    "party_positions_daily", "fee_revenue_daily",
)  # fmt: skip
KEPT = (
    "intermediate.int_bank_entries", "intermediate.int_monitored_entries", "intermediate.int_alert_evidence",
)  # fmt: skip
"""What increments read besides marts: equal after one step, the next one begins from the same."""
LAST = histories.at(8).date()


def test_tests_of_the_project_hold(built: Warehouse) -> None:
    built.dbt("test")


def test_increments_equal_a_full_build(built: Warehouse, tmp_path: Path) -> None:
    grown = Warehouse(tmp_path)
    for piece in histories.slices(ALL, count=2):
        grown.build(piece)
    tables = [*(f"marts.{mart}" for mart in MARTS), *KEPT]
    different = [table for table in tables if built.table(table) != grown.table(table)]
    assert not different
    assert built.rows(
        "select count(*) from marts.entries where reconciliation_status = 'break'"
    ) != [(0,)]
    assert built.rows("select count(*) from marts.transactions where reversed_by_seq > 0") != [(0,)]


def test_holds_are_what_loops_find(built: Warehouse) -> None:
    found = defaultdict(dict)
    for ledger, seq, *hold in built.rows(
        "select ledger, seq, state, ended_seq, capture_count, placed, captured, released, pending,"
        " last_seq from marts.holds"
    ):
        found[ledger][seq] = tuple(hold)
    for facts in HELD:
        assert found[facts.ledger] == oracles.holds(facts), facts.ledger
        pending = built.rows(
            "select account, pending_debits, pending_credits from marts.account_balances_current"
            f" where ledger = '{facts.ledger}' and pending_debits + pending_credits > 0"
        )
        assert {row[0]: row[1:] for row in pending} == oracles.pending(facts), facts.ledger
    states = built.rows("select distinct state from marts.holds order by 1")
    assert states == [("captured",), ("expired",), ("open",), ("voided",)]


def test_periods_stand_as_the_ledger_has_them(built: Warehouse) -> None:
    for facts in HELD:
        books = oracles.periods(facts)
        rows = built.rows(
            "select state, seq, cast(stands_through as varchar) from marts.periods"
            f" where ledger = '{facts.ledger}' and stands_through is not null order by seq"
        )
        closed = max((day for state, _, day in rows if state == "closed"), default="")
        assert closed == books.closed, facts.ledger
        assert {day: seq for state, seq, day in rows if state == "attested"} == books.attested
        last = [day for state, _, day in rows if state == "soft_closed"][-1:]
        assert not last or last[0] <= books.soft_closed
    assert built.rows("select count(*) from marts.periods where reopened_by_seq > 0") != [(0,)]


def test_months_positions_and_fees_are_what_loops_find(built: Warehouse) -> None:
    for mart, columns, oracle in (
        (
            "account_activity_monthly",
            "account, month_start, opening_balance, debits, credits, closing_balance, entry_count",
            oracles.months,
        ),
        (
            "party_positions_daily",
            "party, position_date, account_class, custodial, debits, credits, balance",
            oracles.positions,
        ),
        (
            "fee_revenue_daily",
            "revenue_date, kind, rule, charged, taken_back, transaction_count, last_seq",
            oracles.fees,
        ),
    ):
        for facts in [*HELD, *RANDOM]:
            found = built.rows(
                f"select {columns} from marts.{mart} where ledger = '{facts.ledger}'"
            )
            assert sorted(found) == sorted(oracle(facts)), (mart, facts.ledger)
    assert built.rows(
        "select count(*) from marts.account_activity_monthly as m"
        " join marts.account_balances_daily as d using (ledger, account)"
        " where d.balance_date = m.last_effective_date and d.balance <> m.closing_balance"
    ) == [(0,)]
    rules = built.rows(
        "select distinct rule from marts.fee_revenue_daily where revenue < 0 order by 1"
    )
    assert rules == [("",), ("card",)]


@pytest.mark.parametrize("rule", oracles.RULES, ids=lambda rule: rule.__name__)
def test_rules_find_what_loops_find(built: Warehouse, rule) -> None:
    evidence = defaultdict(set)
    for ledger, subject, candidate, *row in built.rows(
        "select c.ledger, subject, candidate_id, seq, entry_no, role, e.amount"
        " from marts.alert_candidates c join marts.alert_candidate_entries e using (candidate_id)"
        f" where rule = '{rule.__name__}'"
    ):
        evidence[ledger, subject, candidate].add(tuple(row))
    total = 0
    for facts in RANDOM:
        expected = rule(facts)
        found = {
            (rule.__name__, subject, frozenset(rows))
            for (ledger, subject, _), rows in evidence.items()
            if ledger == facts.ledger
        }
        assert found == expected, facts.ledger
        total += len(expected)
    assert total >= 5, "the histories hardly try this rule"


def test_rules_look_only_at_those_who_moved_since(tmp_path: Path) -> None:
    """Whom a reversal or a deposit by somebody else concerns is among them; a new parameter, all are."""
    facts, warehouse = Facts(), Warehouse(tmp_path)
    facts.account("bank:fbo")
    for number in range(4):
        facts.account(f"customer:{number}:wallet", owner=f"p{number}")
    cash: dict[str, Any] = {"channel": "cash", "kind": "cash_deposit"}
    day = dt.date(2026, 3, 2)
    deposit = facts.receive(day, "customer:0:wallet", 1_000_001, conductor="p3", **cash)
    facts.receive(day, "customer:1:wallet", 1_000_002, **cash)

    def looked_at(facts: Facts | dict[str, list[Row]]) -> set[str]:
        warehouse.build(facts)
        return {
            subject
            for (subject,) in warehouse.rows(
                "select subject from intermediate.int_touched_subjects"
            )
        }

    def reported() -> set[str]:
        return {person for (person,) in warehouse.rows("select person from marts.ctr_candidates")}

    assert looked_at(facts) == {"customer:0:wallet", "customer:1:wallet", "p0", "p1", "p3"}
    assert reported() == {"p0", "p1", "p3"}
    assert looked_at({}) == set()
    assert reported() == {"p0", "p1", "p3"}

    more = facts.since()
    facts.reverse(day, deposit)
    assert looked_at(more()) == {"customer:0:wallet", "p0", "p3"}
    assert reported() == {"p1"}

    more = facts.since()
    facts.receive(day, "customer:2:wallet", 1_000_003, conductor="p3", **cash)
    assert looked_at(more()) == {"customer:2:wallet", "p2", "p3"}
    assert reported() == {"p1", "p2", "p3"}

    with duckdb.connect(str(warehouse.file)) as connection:
        connection.execute(
            "update seeds.rule_parameters set value = 1000002 where rule = 'ctr_aggregation'"
        )
    assert "p1" in looked_at({})
    assert reported() == {"p2", "p3"}


def test_an_account_registered_late_brings_its_past(tmp_path: Path) -> None:
    facts, warehouse = Facts(), Warehouse(tmp_path)
    facts.account("bank:fbo")
    facts.account("bank:operating")
    facts.account("customer:1:wallet")
    facts.statement_account("bank:fbo")
    day = dt.date(2026, 3, 2)
    moved = [facts.receive(day, "customer:1:wallet", 500)]
    aside = facts.post(day, [("bank:operating", "debit", 7), ("bank:fbo", "credit", 7)])

    def kept() -> list[tuple[int, str]]:
        return warehouse.rows("select seq, account from intermediate.int_bank_entries order by all")

    warehouse.build(facts)
    assert kept() == [(moved[0], "bank:fbo"), (aside, "bank:fbo")]
    more = facts.since()
    facts.statement_account("bank:operating", purpose="operating")
    moved.append(facts.receive(day, "customer:1:wallet", 900))
    warehouse.build(more())
    grown = [
        (moved[0], "bank:fbo"),
        (aside, "bank:fbo"),
        (aside, "bank:operating"),
        (moved[1], "bank:fbo"),
    ]
    assert kept() == grown
    warehouse.dbt("run", "--full-refresh")
    assert kept() == grown


def test_evidence_adds_up_and_reads_in_words(built: Warehouse) -> None:
    assert built.rows(
        "select candidate_id from marts.alert_candidates c"
        " where amount <> (select sum(amount) from marts.alert_candidate_entries e"
        " where e.candidate_id = c.candidate_id) or why not like '% USD%' or score <= 0"
        " or episode <> ledger || '/' || (select min(seq) from marts.alert_candidate_entries e"
        " where e.candidate_id = c.candidate_id)"
    ) == []  # fmt: skip
    assert built.rows(
        "select count(*) from marts.ctr_candidates where amount <= 1000000"
        " or due_date - business_date <> 15"
    ) == [(0,)]


def test_each_kind_of_break(built: Warehouse) -> None:
    day = lambda number: histories.at(number).date()  # noqa: E731
    found = built.rows(
        "select kind, reference, opened_date, bank_amount, ledger_amount, difference"
        " from marts.reconciliation_breaks where ledger = 'cases' and account = 'bank:fbo'"
        " order by kind, opened_date, difference"
    )
    assert found == [
        ("amount_differs", "misstated", day(0), 212, 202, 10),
        ("duplicate_at_bank", "doubled", day(1), 404, 0, 404),
        ("missing_at_bank", None, day(0), 0, 606, -606),
        ("missing_at_bank", "lost", day(0), 0, 303, -303),
        ("missing_in_ledger", "unknown", day(2), 111, 0, 111),
        ("missing_in_ledger", "out", day(2), 909, 0, 909),
        ("missing_in_ledger", None, day(3), 606, 0, 606),
        ("timing", "soon", day(7), 0, 707, -707),
    ]
    assert built.rows(
        "select method, amount from marts.reconciliation_matches where ledger = 'cases' order by 2"
    ) == [("reference", 101), ("reference", 404), ("amount_and_date", 505), ("reference", 909)]
    assert built.rows(
        "select amount, reconciliation_status from marts.entries"
        " where ledger = 'cases' and account = 'bank:fbo' and amount in (10000, 5000, 101, 808, 707)"
        " order by amount"
    ) == [
        (101, "reconciled"), (707, "timing"), (808, "awaiting_statement"),
        (5_000, "before_statements"), (10_000, "before_statements"),
    ]  # fmt: skip


def test_days_close(built: Warehouse) -> None:
    days = built.rows(
        "select statement_date, bank_closing, ledger_closing, customers, in_transit,"
        " difference_bank_ledger, difference_ledger_customers, open_breaks, explained_difference,"
        " status from marts.reconciliation_days"
        " where statement_account = 'cases_fbo' order by statement_date"
    )
    first, second, *_, last = days
    assert first[1:] == (15_313, 16_212, 16_212, 0, -899, 0, 3, -899, "explained")
    assert second[3:5] == (16_212 + 404 - 909 - 50, 50)
    assert last[0] == LAST
    assert last[-2] == last[5] == 10 + 404 - 606 - 303 + 111 + 909 + 606 - 707
    assert {row[-1] for row in days} == {"explained"}
    assert built.rows(
        "select statement_date, difference_bank_ledger, customers, status"
        " from marts.reconciliation_days where statement_account = 'cases_operating' order by 1"
    ) == [
        (histories.at(0).date(), 7, None, "unexplained"),
        (histories.at(1).date(), 0, None, "reconciled"),
    ]
    assert built.rows("select distinct status from marts.reconciliation_days"
                      " where ledger like 'random%' order by 1") == [("explained",), ("reconciled",)]  # fmt: skip
    assert built.rows("select reconciliation_status from marts.statement_lines"
                      " where statement = 'mistake'") == [("superseded",)]  # fmt: skip


def test_stated_balances_within_rounding(built: Warehouse) -> None:
    assert built.rows(
        "select account, opened_date, last_date, difference from marts.reconciliation_breaks"
        " where kind = 'stated_balance_differs' order by account"
    ) == [
        ("customer:1:wallet", histories.at(6).date(), histories.at(6).date(), 1),
        ("customer:4:wallet", histories.at(1).date(), histories.at(6).date(), 2),
    ]


def test_a_currency_of_the_ledger_s_own_has_the_places_it_was_declared_with(
    built: Warehouse,
) -> None:
    for mart in ("accounts", "entries", "account_balances_current", "trial_balance_daily"):
        found = built.rows(
            f"select distinct currency, exponent from marts.{mart} where ledger = 'own' order by 1"
        )
        assert found == [("POINTS", 9)], mart


def test_places_are_those_declared_in_every_mart_and_a_currency_without_any_is_found(
    tmp_path: Path,
) -> None:
    warehouse = Warehouse(tmp_path)
    ours = histories.everything_in("declared", "GRAIN", 9)
    warehouse.land(merged([ours, histories.everything_in("unknown", "GHOST", None)]))
    warehouse.dbt("seed")
    warehouse.rows(
        "insert into seeds.rule_parameters select * replace (unnest(['GRAIN', 'GHOST']) as currency)"
        " from seeds.rule_parameters"
    )
    warehouse.dbt("run")
    with_places = {
        mart for (mart,) in warehouse.rows(
            "select table_name from information_schema.columns"
            " where table_schema = 'marts' and column_name = 'exponent'"
        )
    }  # fmt: skip
    assert with_places >= {"accounts", "entries", "statement_lines", "ctr_candidates"}
    for mart in with_places:
        found = warehouse.rows(
            f"select distinct ledger, currency, exponent from marts.{mart} order by ledger"
        )
        assert found == [("declared", "GRAIN", 9), ("unknown", "GHOST", None)], mart
    assert warehouse.rows(
        "select kind, explanation from marts.reconciliation_breaks where ledger = 'declared'"
        " order by kind"
    ) == [
        ("missing_in_ledger",
         "The bank states 0.000000007 GRAIN; no entry of the ledger fits it."),
        ("stated_balance_differs",
         ("The source states a balance of 0.001000003 GRAIN, the ledger has 0.001000001 GRAIN: a"
          " difference of 0.000000002 GRAIN, more than rounding explains.")),
    ]  # fmt: skip
    with pytest.raises(AssertionError) as failed:
        warehouse.dbt("test")
    assert not {mart for mart in with_places if f"never_null_{mart}_" not in str(failed.value)}
    with duckdb.connect(str(warehouse.file)) as connection:
        blocking = {one.check.name: one.check for one in check_identities(connection)}
    assert [name for name, check in blocking.items() if not check.passed] == ["places_known"]
    assert blocking["places_known"].detail.startswith("unknown GHOST in ")


def test_seeds_equal_the_ledgers_own_rules(built: Warehouse) -> None:
    assert dict(built.rows("select currency, exponent from seeds.currencies")) == EXPONENTS
    calendar = built.rows(
        "select day, is_banking_day, next_banking_day from marts.banking_calendar"
    )
    assert len(calendar) == (dt.date(2036, 1, 1) - dt.date(2020, 1, 1)).days
    banking_days = sorted(day for day, is_banking, _ in calendar if is_banking)
    assert banking_days == [day for day, *_ in sorted(calendar) if is_banking_day(day)]
    following = dict(itertools.pairwise(banking_days))
    assert all(
        following[day] == after for day, is_banking, after in calendar if is_banking and after
    )
