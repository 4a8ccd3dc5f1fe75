"""Looking for transactions by declared filters, in pages that lose and repeat none.

A page goes on from where the last one ended, by key: `seq` downwards, or, where a range of effective
time is asked for, (effective_at, seq) downwards. `seq` only grows and nothing changes afterwards, so
what is posted meanwhile comes before the first page and moves none.

Kind and channel take few values, so each has a bitmap of the transactions that have it; for the other
filters there is an index in the order of its pages. Most transactions count for the moment at which
they are recorded: among these the order of effective time is that of `seq`. The others, which are
value-dated, have an index by effective time, and a page is the first of both together.

Among what an index finds, kind and channel are looked for in a bounded number: where few fit, a page is
short, and says where the next one goes on.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from ledger_service.contract.events import timestamp
from ledger_service.engine import projector
from ledger_service.engine.projections import BITMAP_EVENTS
from ledger_service.engine.reads import LAST_SEQ

EXAMINED = 10_000
"""Transactions that a page may look at for a kind or channel among what has no bitmap."""


class Filters(msgspec.Struct, frozen=True):
    """What transactions must be, all of it; None asks for nothing."""

    kind: str | None = None
    channel: str | None = None
    counterparty: str | None = None
    rail_reference: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    """Pairs of a declared key and its value."""
    effective_from: dt.datetime | None = None
    """With it ..."""
    effective_to: dt.datetime | None = None
    """... up to, without it."""
    after_seq: int = 0
    until_seq: int = LAST_SEQ
    """Recorded range, as `seq`: past the first, up to and with the second."""

    @property
    def by_effective_time(self) -> bool:
        """Whether pages go by effective time."""
        return self.effective_from is not None or self.effective_to is not None


Place = tuple[dt.datetime | None, int]
"""Where a page ended: effective_at (where pages go by it) and seq."""


class Page(msgspec.Struct, frozen=True):
    """Rows of seq, effective_at (null where pages do not go by it) and the transaction's bytes."""

    rows: list[Any]
    following: Place | None
    """The next page has what comes past this place; None: there is no more."""


async def find(
    connection: Any, ledger: str, filters: Filters, *, before: Place | None, limit: int, head: int
) -> Page:
    """A page of up to `limit` transactions past `before`.

    Sees all up to `head`. Errors: `ProjectionBehind`.
    """
    await projector.caught_up(connection, ledger, head)
    recorded = _ALWAYS
    if filters.by_effective_time:
        moment, seq = before or (None, None)
        past, until = await connection.fetchrow(
            _RECORDED, ledger, filters.effective_from, filters.effective_to, moment, seq
        )
        recorded = past, until
    sql, arguments = question(ledger, filters, before, limit + 1, recorded)
    rows = await connection.fetch(sql, *arguments)
    # The row without an event is where looking was given up: what comes past it may lack some.
    edge = next((number for number, row in enumerate(rows) if row["bytes"] is None), None)
    if edge is not None and edge <= limit:
        return Page(rows[:edge], place_of(rows[edge], filters))
    if len(rows) > limit:
        return Page(rows[:limit], place_of(rows[limit - 1], filters))
    return Page(rows, None)


Recorded = tuple[int, int]
"""A recorded range, as `seq`: past the first, up to and with the second."""
_ALWAYS: Recorded = (0, LAST_SEQ)

# Where what counts when it is recorded lies by seq: from $2 on, before $3, and past the place ($4, $5).
_RECORDED = """
  select ledger.seq_known_at($1, coalesce($2::timestamptz, '-infinity') - interval '1 microsecond'),
         least(ledger.seq_known_at($1, coalesce($3::timestamptz, 'infinity')
                                       - interval '1 microsecond'),
               case when $5::bigint is not null then greatest(
                 ledger.seq_known_at($1, $4::timestamptz - interval '1 microsecond'),
                 least(ledger.seq_known_at($1, $4), $5 - 1)) end)
"""


def question(
    ledger: str, filters: Filters, before: Place | None, limit: int, recorded: Recorded = _ALWAYS
) -> tuple[str, list[Any]]:
    """The statement of a page and its parameters.

    `recorded`: where what counts when it is recorded lies, if pages go by effective time.
    """
    asked = _Question(ledger, filters, limit)
    past, until = max(filters.after_seq, recorded[0]), min(filters.until_seq, recorded[1])
    if before is not None and not filters.by_effective_time:
        until = min(until, before[1] - 1)
    sources = [asked.as_recorded(past, until)]
    if filters.by_effective_time:
        sources.append(asked.value_dated(before))
    found, edges, ctes = [], ["select null::bigint, null::timestamptz where false"], []
    for number, source in enumerate(sources):
        ctes.append(f"source{number} as materialized ({source.page}), ")
        found.append(f"select * from source{number}")
        if source.edge:
            few = f"(select count(*) from source{number}) < $2"
            edges.append(f"select * from ({source.edge}) as edge where {few}")
    return (
        f"""
      with {"".join(ctes)}
      page as materialized (
        select * from ({" union all ".join(found)}) as found
         order by effective_at desc, seq desc limit $2),
      edge (seq, effective_at) as ({" union all ".join(edges)})
      select page.*, j.bytes from page
             join ledger.journal j on j.ledger = $1 and j.seq = page.seq
      union all
      select edge.*, null from edge
       order by effective_at desc, seq desc, bytes nulls last
    """,
        asked.arguments,
    )


class _Source(NamedTuple):
    """Selects of seq and effective_at (null where pages do not go by it), in the order of pages."""

    page: str
    edge: str = ""
    """Where looking was given up, if too few were found before."""


class _Question:
    """A question in the making: its parameters, and where it is answered from."""

    def __init__(self, ledger: str, filters: Filters, limit: int) -> None:
        self.arguments: list[Any] = [ledger, limit]
        self._filters = filters
        columns = {
            column: self._parameter(value)
            for column in ("kind", "channel", "counterparty", "rail_reference")
            if (value := getattr(filters, column)) is not None
        }
        self._sorts = {name: value for name, value in columns.items() if name in _SORTS}
        self._columns = {name: value for name, value in columns.items() if name not in _SORTS}
        self._metadata = [tuple(map(self._parameter, pair)) for pair in filters.metadata]

    def _parameter(self, value: Any) -> str:
        self.arguments.append(value)
        return f"${len(self.arguments)}"

    def as_recorded(self, past: int, until: int) -> _Source:
        """The newest up to `until`; by effective time only those that count when they are recorded."""
        by_effective_time = self._filters.by_effective_time
        span = [f"{self._parameter(bound)}::bigint" for bound in (past, until)]
        properties = dict(self._sorts)
        if by_effective_time:
            properties["effective_at"] = "'recorded_at'"
        if properties and not self._columns and not self._metadata:
            found = _by_bitmaps(properties, *span)
            if not by_effective_time:
                return _Source(f"select seq, null::timestamptz as effective_at from ({found}) as s")
            return _Source(
                f"select s.seq, j.recorded_at as effective_at from ({found}) as s "
                "join ledger.journal j on j.ledger = $1 and j.seq = s.seq"
            )
        names = [*(f"m{number}" for number in range(len(self._metadata))), "t"]
        # Said of each table: PostgreSQL passes equalities on through a join, not bounds.
        conditions = [f"{name}.seq > {span[0]} and {name}.seq <= {span[1]}" for name in names]
        conditions += [f"t.{column} = {value}" for column, value in self._columns.items()]
        if by_effective_time:
            conditions.append(
                "not exists (select from ledger.value_dated_transaction v where v.ledger = $1 "
                "and v.effective_at = t.effective_at and v.seq = t.seq)"
            )
        return self._of_sort(
            f"select t.seq, {'t.effective_at' if by_effective_time else 'null::timestamptz'} "
            f"as effective_at from ledger.transaction t {self._described()} "
            f"where t.ledger = $1 and {' and '.join(conditions)} order by {names[0]}.seq desc",
            "seq desc",
        )

    def value_dated(self, before: Place | None) -> _Source:
        """The value-dated ones past a place."""
        filters, source = self._filters, "ledger.value_dated_transaction v"
        conditions = ["v.ledger = $1"]
        if (filters.after_seq, filters.until_seq) != _ALWAYS:
            first, last = self._parameter(filters.after_seq), self._parameter(filters.until_seq)
            conditions.append(f"v.seq > {first} and v.seq <= {last}")
        if filters.effective_from is not None:
            conditions.append(f"v.effective_at >= {self._parameter(filters.effective_from)}")
        if filters.effective_to is not None:
            conditions.append(f"v.effective_at < {self._parameter(filters.effective_to)}")
        if before is not None:
            moment, seq = map(self._parameter, before)
            conditions.append(f"(v.effective_at, v.seq) < ({moment}::timestamptz, {seq}::bigint)")
        if self._columns or self._metadata:
            source += (
                " join ledger.transaction t on t.ledger = $1 and t.seq = v.seq "
                "and t.effective_at = v.effective_at " + self._described()
            )
            conditions += [f"t.{column} = {value}" for column, value in self._columns.items()]
        return self._of_sort(
            f"select v.seq, v.effective_at from {source} where {' and '.join(conditions)} "
            "order by v.effective_at desc, v.seq desc",
            "effective_at desc, seq desc",
        )

    def _described(self) -> str:
        """What a transaction `t` is joined with to have the metadata."""
        return " ".join(
            f"join ledger.transaction_metadata m{number} on m{number}.ledger = $1 "
            f"and m{number}.key = {key} and m{number}.value = {value} and m{number}.seq = t.seq"
            for number, (key, value) in enumerate(self._metadata)
        )

    def _of_sort(self, candidates: str, order: str) -> _Source:
        """Of ordered candidates those of the kind and channel, looked for among so many."""
        if not self._sorts:
            return _Source(f"{candidates} limit $2")
        sorts = " and ".join(f"t.{column} = {value}" for column, value in self._sorts.items())
        return _Source(
            f"""
          select candidates.* from ({candidates} limit {EXAMINED}) as candidates
                 cross join lateral (select kind, channel from ledger.transaction t
                                      where t.ledger = $1 and t.seq = candidates.seq offset 0) as t
           where {sorts} order by {order} limit $2
        """,
            f"select * from ({candidates} limit {EXAMINED}) as candidates offset {EXAMINED - 1}",
        )


_SORTS = ("kind", "channel")
"""Columns that take few values, each with a bitmap."""


def _by_bitmaps(properties: Mapping[str, str], past: str, until: str) -> str:
    """A select of the newest that have each of the properties.

    Every block that is looked at has one at least, so as many are enough, and one of which all may be
    past `until`. Only parts of a block in which a bit is set are looked through.
    """
    blocks, conditions = [], []
    for number, (field, value) in enumerate(properties.items()):
        using = "using (ledger, block)" if number else ""
        blocks.append(f"ledger.transaction_bitmap p{number} {using}")
        conditions.append(
            f"p{number}.ledger = $1 and p{number}.field = '{field}' and p{number}.value = {value} "
            f"and p{number}.block between {past} / {BITMAP_EVENTS} and {until} / {BITMAP_EVENTS}"
        )
    bits = " & ".join(f"p{number}.bits" for number in range(len(properties)))
    return f"""
      select seq from (
          select block, {bits} as bits from {" join ".join(blocks)}
           where {" and ".join(conditions)} and {bits} <> '0'::bit({BITMAP_EVENTS})
           order by block desc limit $2 + 1) as b
        cross join lateral generate_series(0, {BITMAP_EVENTS - 1}, 32) as part
        cross join lateral generate_series({BITMAP_EVENTS} * b.block + part,
                                           {BITMAP_EVENTS} * b.block + part + 31) as seq
       where substring(b.bits from part + 1 for 32) <> '0'::bit(32)
         and get_bit(b.bits, (seq % {BITMAP_EVENTS})::int) = 1 and seq > {past} and seq <= {until}
       order by b.block desc, seq desc limit $2
    """


def place_of(row: Any, filters: Filters) -> Place:
    """Where the page after this row begins."""
    return (row["effective_at"] if filters.by_effective_time else None), row["seq"]


def write_place(place: Place) -> str:
    """A place as text: the `before` of the next page."""
    moment, seq = place
    return str(seq) if moment is None else f"{timestamp(moment)}_{seq}"


def read_place(text: str, filters: Filters) -> Place:
    """A place from its text. Errors: ValueError, also for that of a page in the other order."""
    moment, separator, seq = text.rpartition("_")
    if bool(separator) != filters.by_effective_time:
        raise ValueError("no place in this list")
    place = (dt.datetime.fromisoformat(moment) if separator else None), int(seq)
    if not 0 < place[1] < 2**63 or (place[0] is not None and place[0].tzinfo is None):
        raise ValueError("no place in this list")
    return place
