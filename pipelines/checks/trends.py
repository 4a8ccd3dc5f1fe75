"""Whether a day looks like the days before it: how many entries, and of what kind, channel, size.

What is compared is the last whole banking day of each ledger with the banking days of the four weeks
before it, by business date. All arithmetic is of integers. A ledger with too few days, or a day with
too few entries, is not judged.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import duckdb

from pipelines.checks.declared import outcome
from pipelines.publication.snapshot import Outcome

TRAILING_DAYS = 20
FEWEST_DAYS = 10
VOLUME_FACTOR = 4
"""A day may have this many times as many entries as usual, or as few by the same measure."""
DRIFT_PER_MILLE = 500
"""Half of the day's entries would have to be others to make it a usual day."""
FEWEST_ENTRIES = 200
"""Of a day, and of the days before it together, whose mixture says something."""

# A business date in the future is no day that is over: the clock of the ledger's facts limits it.
_DAYS = f"""
    with lives as (
        select ledger, min(business_date) as first_day,
            least(max(business_date), cast(max(recorded_at) as date)) as running_day
        from marts.entries group by ledger
    )
    select ledger, day, row_number() over (partition by ledger order by day desc) as age
    from lives inner join marts.banking_calendar
        on is_banking_day and day >= first_day and day < running_day
    qualify age <= {TRAILING_DAYS + 1}
"""
# The size of an amount is its number of digits.
_MIXTURE = """
    select ledger, age, kind, channel, length(cast(amount as varchar)) as digits, count(*) as entries
    from marts.entries inner join days using (ledger)
    where business_date = day and business_date >= (select min(day) from days)
    group by all
"""
_DRIFTS = {"drift_of_kinds": 0, "drift_of_channels": 1, "drift_of_amounts": 2}
"""Place of what is compared in a row of the mixture."""

Mixture = Counter[tuple[str, str, int]]
"""Entries by kind, channel and digits of the amount."""


def check_trends(connection: duckdb.DuckDBPyConnection) -> list[Outcome]:
    """Volume, and drift of kinds, channels and amounts; a query that fails is a failed check."""
    try:
        connection.execute(f"create or replace temp table days as {_DAYS}")
        lengths = dict(
            connection.execute("select ledger, max(age) from days group by 1").fetchall()
        )
        rows = connection.execute(_MIXTURE).fetchall()
    except duckdb.Error as failure:
        return [outcome(name, f"error: {failure}") for name in ("volume", *_DRIFTS)]
    last: dict[str, Mixture] = defaultdict(Counter)
    before: dict[str, Mixture] = defaultdict(Counter)
    for ledger, age, *what, entries in rows:
        (last if age == 1 else before)[ledger][tuple(what)] += entries
    days = {ledger: age - 1 for ledger, age in lengths.items() if age > FEWEST_DAYS}
    return [
        _volume({ledger: (last[ledger].total(), before[ledger].total(), days[ledger]) for ledger in days}),
        *(_drift(name, {ledger: (last[ledger], before[ledger]) for ledger in days}) for name in _DRIFTS),
    ]  # fmt: skip


def _volume(counted: dict[str, tuple[int, int, int]]) -> Outcome:
    """`counted`: entries of the day, of the days before it together, and how many those are."""
    problems, figures = [], {}
    for ledger, (entries, usual, days) in counted.items():
        figures |= {f"entries of {ledger}": entries, f"usual in {ledger}": usual // days}
        if entries * days > VOLUME_FACTOR * usual or entries * days * VOLUME_FACTOR < usual:
            problems.append(f"{ledger}: {entries} entries, {usual // days} a day before")
    return outcome("volume", "; ".join(problems[:3]), figures)


def _drift(name: str, mixtures: dict[str, tuple[Mixture, Mixture]]) -> Outcome:
    problems, figures = [], {}
    for ledger, (day, before) in mixtures.items():
        if min(day.total(), before.total()) < FEWEST_ENTRIES:
            continue
        distance = per_mille_apart(_marginal(day, _DRIFTS[name]), _marginal(before, _DRIFTS[name]))
        figures[f"per mille in {ledger}"] = distance
        if distance > DRIFT_PER_MILLE:
            problems.append(f"{ledger}: {distance} per mille of the day's entries are unusual")
    return outcome(name, "; ".join(problems[:3]), figures)


def _marginal(mixture: Mixture, place: int) -> Counter[str | int]:
    found: Counter[str | int] = Counter()
    for what, entries in mixture.items():
        found[what[place]] += entries
    return found


def per_mille_apart(one: Counter[str | int], other: Counter[str | int]) -> int:
    """Total variation distance of two mixtures: 0 for equal shares, 1000 where nothing is shared."""
    ours, theirs = one.total(), other.total()
    apart = sum(abs(one[what] * theirs - other[what] * ours) for what in one | other)
    return apart * 1000 // (2 * ours * theirs)
