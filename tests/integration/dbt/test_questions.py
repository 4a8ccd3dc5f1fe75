"""The questions of docs/questions, asked of a published snapshot; loops over the facts say the same.

The demo's test asks them of the ledger itself, over HTTP.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipelines.publication import reading, snapshot
from pipelines.publication.parts import KnownParts
from pipelines.warehouse.dbt import published_marts
from tests.documents import ROOT
from tests.integration.dbt import histories, oracles
from tests.integration.dbt.histories import ASKED
from tests.integration.dbt.warehouse import Facts, Warehouse

QUESTIONS = sorted((ROOT / "docs" / "questions").glob("*.sql"))
DAY = dt.date(2026, 4, 20)


HELD = histories.HELD[5]


@pytest.fixture(scope="module")
def reader(built: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[reading.Reader]:
    """The marts, published, and opened as an analyst opens them."""
    snapshots = tmp_path_factory.mktemp("published")
    marts = published_marts(built.manifest)
    with duckdb.connect(str(built.file)) as connection:
        snapshot.publish(connection, snapshots, marts, [], code_version="test", known=KnownParts())
    with reading.opened(snapshots, "general") as one:
        yield one


def answers(reader: reading.Reader, question: str, **values: Any) -> list[tuple[Any, ...]]:
    text = (ROOT / "docs" / "questions" / f"{question}.sql").read_text()
    table = reader.query(text, {name: str(value) for name, value in values.items()})
    rows = list(table.rows)
    assert rows, f"{question} was asked of data that do not answer it"
    assert not any(isinstance(value, float) for row in rows for value in row)
    return rows


def entries(facts: Facts) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each entry with its transaction."""
    transactions = {row["seq"]: row for row in facts.rows["transactions"]}
    for entry in facts.rows["entries"]:
        yield entry, transactions[entry["seq"]]


def signed(facts: Facts, entry: dict[str, Any]) -> int:
    sides = {row["account"]: row["normal_side"] for row in facts.rows["accounts"]}
    return entry["amount"] if entry["side"] == sides[entry["account"]] else -entry["amount"]


def test_there_are_fifteen_and_the_page_names_each_with_its_parameters() -> None:
    page = (ROOT / "docs" / "questions.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("| [")]
    assert len(QUESTIONS) == len(lines) == 15
    for file in QUESTIONS:
        (line,) = [one for one in lines if f"(questions/{file.name})" in one]
        head, text = file.read_text().split("\n", 1)
        assert line[3:].split("?")[0] in head.replace(": returns, chargebacks, bank fees", "")
        names = {part.split("`")[0] for part in line.rsplit("|", 2)[1].split("`")[1::2]}
        (statement,) = duckdb.connect().extract_statements(text)
        assert statement.named_parameters == names, file.name


@pytest.mark.parametrize("known_at", ["2026-01-01 00:02:00", "2026-04-01 00:00:00"])
@pytest.mark.parametrize("facts", [ASKED, HELD], ids=lambda one: one.ledger)
def test_balances_as_of_both_clocks(reader, facts: Facts, known_at: str) -> None:
    found = answers(reader, "balances_as_of", ledger=facts.ledger, day=DAY, known_at=known_at)
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for entry, transaction in entries(facts):
        known = transaction["recorded_at"] <= dt.datetime.fromisoformat(known_at)
        if known and transaction["effective_date"] <= DAY:
            line = sums[entry["account"]]
            line[0 if entry["side"] == "debit" else 1] += entry["amount"]
            line[2] += signed(facts, entry)
    assert {row[0]: list(map(int, row[2:])) for row in found} == sums


def test_what_changed_since_a_report(reader) -> None:
    since = ASKED.seq // 2
    moved: dict[tuple[str, dt.date], list[int]] = defaultdict(list)
    for entry, transaction in entries(ASKED):
        if entry["seq"] > since:
            moved[entry["account"], transaction["effective_date"]].append(signed(ASKED, entry))
    found = answers(reader, "changed_since", ledger="asked", since_seq=since)
    assert {(row[0], row[1]): (row[3], row[4]) for row in found} == {
        key: (len(amounts), sum(amounts)) for key, amounts in moved.items()
    }
    assert min(row[5] for row in found) > since


def test_who_moved_most(reader) -> None:
    owners = {row["account"]: row["owner"] for row in ASKED.rows["accounts"]}
    first, last = dt.date(2026, 3, 10), dt.date(2026, 4, 10)
    volume: dict[str, int] = defaultdict(int)
    for entry, transaction in entries(ASKED):
        if owners[entry["account"]] and first <= transaction["effective_date"] <= last:
            volume[owners[entry["account"]]] += entry["amount"]
    found = answers(reader, "moved_most", ledger="asked", first_day=first, last_day=last)
    order = sorted(volume.items(), key=lambda one: (-one[1], one[0]))
    assert [(row[0], row[2]) for row in found] == order


def test_unreconciled_entries_and_unmatched_lines_are_the_breaks_of_the_cases(reader) -> None:
    found = answers(reader, "unreconciled_entries", ledger="cases")
    assert {(row[7], row[9]) for row in found} >= {
        ("misstated", "amount_differs"), ("lost", "missing_at_bank"), ("soon", "timing"),
    }  # fmt: skip
    assert {row[7] for row in found if row[8] == "awaiting_statement"} == {"later"}
    assert not {"agreed", "before"} & {row[7] for row in found}
    lines = answers(reader, "unmatched_lines", ledger="cases")
    assert {(row[7], row[8]) for row in lines} >= {
        ("misstated", "amount_differs"), ("unknown", "missing_in_ledger"),
        ("doubled", "duplicate_at_bank"),
    }  # fmt: skip
    assert not {"agreed", "mistake"} & {row[7] for row in lines}
    assert all(
        row[10 if one is found else 9] for one in (found, lines) for row in one if "break" in row
    )


def test_fee_revenue_by_day(reader) -> None:
    by_seq = {row["seq"]: row for row in HELD.rows["transactions"]}
    sums: dict[dt.date, list[int]] = defaultdict(lambda: [0, 0])
    for entry, transaction in entries(HELD):
        charge = by_seq[transaction.get("reverses_seq") or entry["seq"]]
        if entry["account"] == "income:fees" and charge["kind"] != "interest":
            sums[transaction["effective_date"]][entry["side"] == "debit"] += entry["amount"]
    found = answers(reader, "fee_revenue", ledger="held_5")
    assert {row[0]: (int(row[2]), int(row[3]), int(row[4])) for row in found} == {
        day: (charged, back, charged - back) for day, (charged, back) in sums.items()
    }


def test_open_holds(reader) -> None:
    states = oracles.holds(HELD)
    placed = {row["seq"]: row["recorded_at"] for row in HELD.rows["holds"]}
    found = answers(reader, "open_holds", ledger="held_5", moment="2026-01-31 00:00:00")
    assert {row[0]: int(row[8]) for row in found} == {
        seq: state[6] for seq, state in states.items() if state[0] == "open"
    }
    assert {row[3] for row in found} == {30}
    assert all(row[2] == placed[row[0]] for row in found)


def test_returns_and_cut_offs(reader) -> None:
    returned: dict[tuple[str, dt.date], list[int]] = defaultdict(list)
    later: dict[tuple[dt.date, dt.date, str], list[int]] = defaultdict(list)
    for entry, transaction in entries(ASKED):
        day, banking_day = transaction["effective_date"], transaction["business_date"]
        if entry["side"] == "debit" and transaction["imposed"]:
            returned[transaction["kind"], day].append(entry["amount"])
        if entry["side"] == "debit" and banking_day > day:
            later[day, banking_day, transaction["channel"]].append(entry["amount"])
    found = answers(reader, "returns", ledger="asked")
    assert {(row[0], row[1]): (row[3], row[4]) for row in found} == {
        key: (len(amounts), sum(amounts)) for key, amounts in returned.items()
    }
    found = answers(reader, "past_the_cut_off", ledger="asked")
    assert {row[:3]: (row[3], row[5]) for row in found} == {
        key: (len(amounts), sum(amounts)) for key, amounts in later.items()
    }


def test_positions_of_parties(reader) -> None:
    classes = {row["account"]: row["account_class"] for row in HELD.rows["accounts"]}
    owners = {row["account"]: row["owner"] for row in HELD.rows["accounts"]}
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for entry, transaction in entries(HELD):
        if owners[entry["account"]] and transaction["effective_date"] <= DAY:
            sums[owners[entry["account"]], classes[entry["account"]]] += signed(HELD, entry)
    found = answers(reader, "party_positions", ledger="held_5", day=DAY)
    assert {(row[0], row[1]): int(row[4]) for row in found} == sums


def test_trial_balance(reader) -> None:
    codes = {row["account"]: row["gl_code"] for row in ASKED.rows["accounts"]}
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for entry, transaction in entries(ASKED):
        if transaction["effective_date"] <= DAY:
            sums[codes[entry["account"]]][entry["side"] == "credit"] += entry["amount"]
    found = answers(reader, "trial_balance", ledger="asked", day=DAY)
    assert {row[0]: [int(row[4]), int(row[5])] for row in found} == sums
    assert sum(row[4] for row in found) == sum(row[5] for row in found)


def test_month_and_history_of_an_account(reader) -> None:
    found = {row[0]: row for row in answers(
        reader, "month_activity", ledger="asked", month="2026-04-01"
    )}  # fmt: skip
    for account, row in found.items():
        mine = [(e, t) for e, t in entries(ASKED) if e["account"] == account]
        before = [signed(ASKED, e) for e, t in mine if t["effective_date"] < dt.date(2026, 4, 1)]
        during = [
            (e, t) for e, t in mine
            if dt.date(2026, 4, 1) <= t["effective_date"] < dt.date(2026, 5, 1)
        ]  # fmt: skip
        moved = sum(signed(ASKED, e) for e, _ in during)
        days = {t["effective_date"] for _, t in during}
        assert (row[2], row[5]) == (sum(before), sum(before) + moved), account
        assert (row[6], row[7]) == (len(during), len(days)), account
    history = answers(reader, "account_history", ledger="asked", account="customer:1:wallet")
    expected, balance = [], 0
    mine = [(e, t) for e, t in entries(ASKED) if e["account"] == "customer:1:wallet"]
    for entry, transaction in sorted(
        mine, key=lambda one: (one[1]["effective_at"], one[0]["seq"], one[0]["entry_no"])
    ):
        balance += signed(ASKED, entry)
        expected.append((transaction["effective_at"], entry["seq"], balance))
    assert [(row[0], row[1], row[8]) for row in history] == expected


def test_what_is_backdated(reader) -> None:
    first, last = dt.date(2026, 3, 1), dt.date(2026, 5, 1)
    expected = {
        row["seq"]: (row["recorded_at"].date() - row["effective_date"]).days
        for row in ASKED.rows["transactions"]
        if row["recorded_at"].date() > row["effective_date"]
        and first <= row["recorded_at"].date() <= last
    }
    found = answers(reader, "backdated_entries", ledger="asked", first_day=first, last_day=last)
    assert {row[0]: row[4] for row in found} == expected


def test_reversals_and_what_still_stands(reader) -> None:
    amounts: dict[int, int] = defaultdict(int)
    for entry, _ in entries(ASKED):
        if entry["side"] == "debit":
            amounts[entry["seq"]] += entry["amount"]
    by_original: dict[int, list[int]] = defaultdict(list)
    for row in ASKED.rows["transactions"]:
        if row.get("reverses_seq"):
            by_original[row["reverses_seq"]].append(row["seq"])
    found = answers(reader, "reversals", ledger="asked")
    assert {row[0]: (row[5], row[6], row[7]) for row in found} == {
        seq: (by, sum(amounts[one] for one in by), amounts[seq] - sum(amounts[one] for one in by))
        for seq, by in by_original.items()
    }
    assert {row[7] > 0 for row in found} == {True, False}  # in part and in full


def test_every_question_answers_from_the_folder_it_is_published_in(reader) -> None:
    """Whatever a file asks binds: a question that no test above names would still fail here."""
    values = {"ledger": "asked", "day": DAY, "known_at": DAY, "since_seq": 1, "first_day": DAY,
              "last_day": DAY, "moment": DAY, "month": DAY, "account": "bank:fbo"}  # fmt: skip
    for file in QUESTIONS:
        list(reader.query(file.read_text(), {k: str(v) for k, v in values.items()}).rows)
    assert Path(ROOT / "docs" / "questions.md").exists()
