"""As-of questions on two clocks: what counted by a moment, as it was known at another (P8).

Sums of whole days (recorded, effective) come from `day_delta`; single entries matter only at the
edges. On the day of the known moment those up to its `seq` are added to the days before, or those
behind it are taken from the whole day, whichever are fewer. On the day of the effective moment those
are added that count up to it. Days are the ledger's own, in its time zone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Iterable
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from ledger_service.contract.events import LedgerOpened, TrialLine, timestamp
from ledger_service.engine import projector, standing
from ledger_service.engine.event_sql import listed
from ledger_service.engine.projections import HISTORY

_DAY = dt.timedelta(days=1)


class Clocks(msgspec.Struct, frozen=True):
    """A point on both clocks, resolved for one ledger."""

    seq: int
    """Known: the events up to this one."""
    whole_before: dt.date
    """What was recorded on the local days before this one is taken as a whole ..."""
    edge_from: int
    """... and from this `seq` on entry by entry: those up to `seq` are added, or, where ..."""
    takes_off: bool
    """... this is so, all others of the last whole day taken off."""
    before_day: dt.date
    """Effective: everything of the days before this one ..."""
    until: dt.datetime | None = None
    """... and of this day itself what counts up to this moment (None: nothing)."""
    on_day: tuple[int, int] = (1, 0)
    """First and last `seq` known that were recorded on that day; the last is before the first where
    none was."""


async def resolve(
    connection: Any,
    ledger: str,
    seq: int,
    *,
    effective_at: dt.datetime | None = None,
    effective_date: dt.date | None = None,
) -> Clocks:
    """The point that a question names; waits for the history. `seq`: the last event known.

    `effective_date` takes the whole of that day; without it and `effective_at` everything counts.
    Errors: `ProjectionBehind`.
    """
    await projector.caught_up(connection, ledger, seq)
    known = await _known(connection, ledger, seq)
    if effective_at is not None:
        edge = effective_at.astimezone(await _zone(connection, ledger)).date()
        recorded = await _recorded_on(connection, ledger, edge, seq)
        return Clocks(seq, *known, edge, effective_at, recorded)
    before = dt.date.max if effective_date in (None, dt.date.max) else effective_date + _DAY
    return Clocks(seq, *known, before)


async def _known(connection: Any, ledger: str, seq: int) -> tuple[dt.date, int, bool]:
    """`whole_before`, `edge_from` and `takes_off` of what is known with `seq`."""
    day = await connection.fetchrow(
        "select recorded_date, first_seq, (select min(n.first_seq) - 1 from ledger.recorded_day n "
        "where n.ledger = $1 and n.first_seq > d.first_seq) as last_seq, (select seq "
        "from ledger.projection where ledger = $1 and name = $3) as followed "
        "from ledger.recorded_day d where d.ledger = $1 and d.first_seq <= $2 "
        "order by d.first_seq desc limit 1",
        ledger,
        seq,
        HISTORY.name,
    )
    if day is None:
        return dt.date.min, 1, False
    first, last = day["first_seq"], day["last_seq"] or day["followed"]
    if last - seq <= seq - first:
        return day["recorded_date"] + _DAY, seq + 1, True
    return day["recorded_date"], first, False


async def _zone(connection: Any, ledger: str) -> ZoneInfo:
    raw = await connection.fetchval(
        "select bytes from ledger.journal where ledger = $1 and seq = 1", ledger
    )
    return ZoneInfo(msgspec.json.decode(raw, type=LedgerOpened).time_zone)


async def _recorded_on(connection: Any, ledger: str, day: dt.date, seq: int) -> tuple[int, int]:
    """First and last `seq` recorded on a day, of those up to `seq`; (1, 0) where there is none."""
    row = await connection.fetchrow(
        "select first_seq, (select min(n.first_seq) from ledger.recorded_day n "
        "where n.ledger = $1 and n.first_seq > d.first_seq) as following "
        "from ledger.recorded_day d where d.ledger = $1 and d.recorded_date = $2",
        ledger,
        day,
    )
    if row is None:
        return 1, 0
    return row["first_seq"], min(seq, (row["following"] or seq + 1) - 1)


# $1 ledger, $2 seq, $3 the day before which days are whole, $4 the first seq of the edge, $5 whether
# it is taken off, $6 day before which all counts, $7 moment on that day, $8 and $9 first and last seq
# recorded on it. Where the edge is taken off it ends with its day, or as far as the history goes in
# the snapshot in which the sums are read.
_SUMS = """
  with edge as materialized (
    select case when not $5::boolean then $2::bigint
                else coalesce((select min(first_seq) - 1 from ledger.recorded_day
                                where ledger = $1 and recorded_date >= $3),
                              (select seq from ledger.projection
                                where ledger = $1 and name = 'history')) end as last),
  counted as (
    select number, debits, credits, effective_date from ledger.day_delta
     where ledger = $1 {account} and recorded_date < $3 and effective_date < $6
    union all
    select number, case when $5 then -debits else debits end,
           case when $5 then -credits else credits end, effective_date
      from (select number, greatest(amount, 0) as debits, greatest(-amount, 0) as credits,
                   effective_date from ({known_edge}) as listed) as known_edge
     where effective_date < $6
    union all
    select e.number, greatest(e.amount, 0), greatest(-e.amount, 0), e.effective_date
      from (
        select number, seq, amount, effective_date from ({on_day}) as on_day
         where effective_date = $6
        union all
        select number, seq, amount, effective_date from ledger.value_dated_entry
         where ledger = $1 {account} and effective_date = $6 and seq <= $2
           and $7::timestamptz is not null) as e
      join ledger.transaction t on t.ledger = $1 and t.seq = e.seq
     where t.effective_at <= $7)
"""
_RECORDED_ON = (
    "(select distinct number from ledger.day_delta where ledger = $1 and recorded_date = {day})"
)


def _sums(account: str, recorded_on_edge: str, recorded_on_day: str) -> str:
    """CTE `counted`. The accounts whose entries matter at each edge are a source of numbers."""
    return _SUMS.format(
        account=account,
        known_edge=listed(recorded_on_edge, "$4::bigint", "(select last from edge)"),
        on_day=listed(recorded_on_day, "$8::bigint", "$9::bigint"),
    )


_ONE = _sums("and number = $10", "(values ($10::bigint))", "(values ($10::bigint))")
"""Of one account, whose number is $10."""
_ALL = _sums(
    "",
    _RECORDED_ON.format(day="case when $5 then $3 - 1 else $3 end"),
    _RECORDED_ON.format(day="$6"),
)
"""Of all: those that were moved on a day are found by its sums."""


def arguments(ledger: str, at: Clocks) -> tuple[Any, ...]:
    """The first parameters of every question."""
    known = at.seq, at.whole_before, at.edge_from, at.takes_off
    return ledger, *known, at.before_day, at.until, *at.on_day


async def number_of(connection: Any, ledger: str, account: str, at: Clocks) -> Any | None:
    """Number, side and currency of an account that was open at that point; None where none was."""
    return await connection.fetchrow(
        "select number, normal_side, currency from ledger.account "
        "where ledger = $1 and account = $2 and number <= $3",
        ledger,
        account,
        at.seq,
    )


async def balance(connection: Any, ledger: str, number: int, at: Clocks) -> tuple[int, int]:
    """Debits and credits of one account."""
    row = await connection.fetchrow(
        _ONE + "select coalesce(sum(debits), 0), coalesce(sum(credits), 0) from counted",
        *arguments(ledger, at),
        number,
    )
    return int(row[0]), int(row[1])


async def daily_movements(
    connection: Any, ledger: str, number: int, at: Clocks, *, first: dt.date, limit: int
) -> list[tuple[dt.date, int, int]]:
    """Debits and credits by effective day, of days with entries only, from `first` on."""
    rows = await connection.fetch(
        _ONE + "select effective_date, sum(debits) as debits, sum(credits) as credits from counted "
        "where effective_date >= $11 group by 1 having sum(debits) > 0 or sum(credits) > 0 "
        "order by 1 limit $12",
        *arguments(ledger, at),
        number,
        first,
        limit,
    )
    return [(row["effective_date"], int(row["debits"]), int(row["credits"])) for row in rows]


ACCOUNTS_AS_OF = (
    _ALL
    + """,
  moved as (
    select number, sum(debits) as debits, sum(credits) as credits from counted group by number)
  select a.account, a.currency, a.gl_code, a.account_class, a.custodial,
         coalesce(m.debits, 0) as debits, coalesce(m.credits, 0) as credits
    from ledger.account a left join moved m using (number)
   where a.ledger = $1 and a.number <= $2
"""
)
"""Every account that was open then, with its debits and credits."""


def trial_lines(rows: Iterable[Any]) -> list[TrialLine]:
    """The lines of a trial balance from its rows."""
    return [
        TrialLine(
            row["gl_code"],
            row["account_class"],
            row["custodial"],
            row["currency"],
            str(int(row["debits"])),
            str(int(row["credits"])),
        )
        for row in rows
    ]


async def trial_balance(connection: Any, ledger: str, at: Clocks) -> list[Any]:
    """Debits and credits by gl_code, class and kind of money, as rows."""
    return await standing.by_code(connection, ACCOUNTS_AS_OF, *arguments(ledger, at))


def balances(connection: Any, ledger: str, at: Clocks) -> AsyncIterator[dict[str, Any]]:
    """Every account's debits and credits, by id. `connection`: for itself alone."""
    return standing.by_account(connection, ACCOUNTS_AS_OF, *arguments(ledger, at))


# --- statements ---------------------------------------------------------------------------------

# An account's entries that count on one day: those recorded on it, and the value-dated ones.
# $1 ledger, $2 number, $3 day, $4 seq, $5 and $6 first and last seq recorded on the day
_ENTRIES_OF_DAY = f"""
  select e.seq, e.entry_no, e.amount, t.effective_at, j.bytes
    from (
      select seq, entry_no, amount from (
        {listed("(values ($2::bigint))", "$5::bigint", "$6::bigint")}) as on_day
       where effective_date = $3
      union all
      select seq, entry_no, amount from ledger.value_dated_entry
       where ledger = $1 and number = $2 and effective_date = $3 and seq <= $4) as e
    join ledger.transaction t on t.ledger = $1 and t.seq = e.seq
    join ledger.journal j on j.ledger = $1 and j.seq = e.seq
   where (t.effective_at, e.seq, e.entry_no) > ($7::timestamptz, $8::bigint, $9::smallint)
   order by t.effective_at, e.seq, e.entry_no limit $10
"""

Place = tuple[dt.datetime, int, int]
"""Where an entry stands in a statement: effective_at, seq, entry_no."""
START: Place = (dt.datetime.min.replace(tzinfo=dt.UTC), 0, -1)


async def statement(
    connection: Any,
    ledger: str,
    number: int,
    at: Clocks,
    *,
    first: dt.date,
    after: Place = START,
    limit: int,
) -> list[Any]:
    """An account's entries in the order in which they count, from the day `first` and `after` on.

    Up to (not with) the day `at.before_day`; `at.until` is not looked at.
    """
    found: list[Any] = []
    day: dt.date | None = first
    while len(found) < limit:
        day = await connection.fetchval(
            "select min(effective_date) from ledger.day_delta where ledger = $1 and number = $2 "
            "and effective_date >= $3 and effective_date < $4",
            ledger,
            number,
            day,
            at.before_day,
        )
        if day is None:
            break
        recorded = await _recorded_on(connection, ledger, day, at.seq)
        found += await connection.fetch(
            _ENTRIES_OF_DAY, ledger, number, day, at.seq, *recorded, *after, limit - len(found)
        )
        day += _DAY
    return found


def place_of(row: Any) -> Place:
    """Where the page after this entry begins."""
    return row["effective_at"], row["seq"], row["entry_no"]


def write_place(place: Place) -> str:
    """A place as text: the `after` of the next page."""
    return f"{timestamp(place[0])}_{place[1]}_{place[2]}"


def read_place(text: str) -> Place:
    """A place from its text. Errors: ValueError."""
    moment, seq, entry_no = text.split("_")
    place = dt.datetime.fromisoformat(moment), int(seq), int(entry_no)
    if place[0].tzinfo is None or not 0 < place[1] < 2**63 or not -1 <= place[2] < 2**15:
        raise ValueError("no place in a statement")
    return place
