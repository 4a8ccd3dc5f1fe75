"""A day that looks like the others is not told; each way in which it does not, by its own check."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import duckdb
import pytest

from pipelines.checks import trends
from pipelines.checks.trends import check_trends, per_mille_apart

FIRST = dt.date(2026, 3, 2)
"""A Monday. The days that are used are 25 banking days and one that still runs."""
HOLIDAY = FIRST + dt.timedelta(days=9)


def banking_days() -> list[dt.date]:
    days = [FIRST + dt.timedelta(days=number) for number in range(40)]
    return [day for day in days if day.weekday() < 5 and day != HOLIDAY]


@pytest.fixture
def marts() -> Iterator[duckdb.DuckDBPyConnection]:
    """A ledger with 240 entries on each of 25 banking days, and 3 on the one that runs."""
    with duckdb.connect(":memory:") as connection:
        connection.execute("create schema marts")
        connection.execute("create table marts.banking_calendar (day date, is_banking_day boolean)")
        connection.execute(
            "create table marts.entries (ledger text, business_date date, recorded_at timestamp,"
            " kind text, channel text, amount bigint)"
        )
        used = banking_days()
        for number in range(60):
            day = FIRST + dt.timedelta(days=number)
            connection.execute(
                "insert into marts.banking_calendar values (?, ?)", [day, day in used]
            )
        for day in used[:25]:
            add(connection, day, 240)
        add(connection, used[25], 3)
        yield connection


def add(
    connection: duckdb.DuckDBPyConnection,
    day: dt.date,
    entries: int,
    *,
    kind: str = "if(i % 2 = 0, 'payroll', 'transfer')",
    channel: str = "if(i % 3 = 0, 'ach', 'card')",
    amount: str = "if(i % 4 = 0, 50, 7000)",
) -> None:
    connection.execute(
        f"insert into marts.entries select 'books', ?, ?, {kind}, {channel}, {amount}"
        f" from range({entries}) as r(i)",
        [day, dt.datetime.combine(day, dt.time(23))],
    )


def failed(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    found = {one.check.name: one for one in check_trends(connection)}
    assert list(found) == ["volume", "drift_of_kinds", "drift_of_channels", "drift_of_amounts"]
    assert not [one for one in found.values() if one.check.blocking or one.restricted]
    return {name: one.check.detail for name, one in found.items() if not one.check.passed}


def last_day(connection: duckdb.DuckDBPyConnection, **as_it_is: str) -> None:
    """Make the last whole day anew."""
    day = banking_days()[24]
    connection.execute("delete from marts.entries where business_date = ?", [day])
    add(connection, day, **{"entries": 240, **as_it_is})  # type: ignore[arg-type]


def test_a_usual_day_is_not_told(marts):
    assert failed(marts) == {}
    figures = check_trends(marts)[0].figures
    assert figures == {"entries of books": 240, "usual in books": 240}
    assert check_trends(marts)[1].figures == {"per mille in books": 0}


@pytest.mark.parametrize(
    ("entries", "is_told"), [(60, False), (59, True), (960, False), (961, True)]
)
def test_a_day_of_too_few_or_too_many_entries_is_told(marts, entries, is_told):
    last_day(marts, entries=entries)
    told = {"volume": f"books: {entries} entries, 240 a day before"} if is_told else {}
    assert failed(marts) == told


def test_a_banking_day_without_any_entry_is_told(marts):
    marts.execute("delete from marts.entries where business_date = ?", [banking_days()[24]])
    assert failed(marts) == {"volume": "books: 0 entries, 240 a day before"}


@pytest.mark.parametrize(
    ("changed", "check"),
    [
        ({"kind": "'reversal'"}, "drift_of_kinds"),
        ({"channel": "'wire'"}, "drift_of_channels"),
        ({"amount": "70000"}, "drift_of_amounts"),
    ],
)
def test_a_day_of_another_mixture_is_told(marts, changed, check):
    last_day(marts, **changed)
    assert failed(marts) == {check: "books: 1000 per mille of the day's entries are unusual"}
    share = next(iter(changed.items()))
    usual = {"kind": "'payroll'", "channel": "'card'", "amount": "7000"}[share[0]]
    last_day(marts, **{share[0]: f"if(i % 2 = 0, {share[1]}, {usual})"})
    assert failed(marts) == {}


def test_what_is_too_little_is_not_judged(marts):
    last_day(marts, entries=199, kind="'reversal'")
    assert failed(marts) == {}
    marts.execute("delete from marts.entries where business_date < ?", [banking_days()[15]])
    last_day(marts, entries=1)
    assert failed(marts) == {}


def test_a_day_in_the_future_ends_no_day(marts):
    add(marts, banking_days()[24], 0)
    marts.execute(
        "insert into marts.entries select ledger, ?, recorded_at, kind, channel, amount"
        " from marts.entries limit 1",
        [FIRST + dt.timedelta(days=59)],
    )
    assert failed(marts) == {}


def test_marts_that_cannot_be_read_have_failed(marts):
    marts.execute("alter table marts.entries drop column kind")
    assert len(failed(marts)) == 4


def test_distance_is_exact():
    from collections import Counter

    assert per_mille_apart(Counter(a=10**18, b=1), Counter(a=10**18, b=1)) == 0
    assert per_mille_apart(Counter(a=1), Counter(b=3)) == 1000
    assert per_mille_apart(Counter(a=3, b=1), Counter(a=1, b=3)) == 500
    assert trends.DRIFT_PER_MILLE == 500
