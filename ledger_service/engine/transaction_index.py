"""Looking for transactions by declared filters, in pages that lose and repeat none.

A page goes on from where the last one ended, by key: `seq` downwards, or, where a range of effective
time is asked for, (effective_at, seq) downwards. `seq` only grows and nothing changes afterwards, so
what is posted meanwhile comes before the first page and moves none. Each filter has an index in the
order of its pages.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

from ledger_service.contract.events import timestamp
from ledger_service.engine import projector
from ledger_service.engine.reads import LAST_SEQ


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


async def find(
    connection: Any, ledger: str, filters: Filters, *, before: Place | None, limit: int, head: int
) -> list[Any]:
    """Up to `limit` transactions past `before`, as rows of seq, effective_at and bytes.

    Sees all up to `head`. Errors: `ProjectionBehind`.
    """
    await projector.caught_up(connection, ledger, head)
    sql, arguments = question(ledger, filters, before, limit)
    return await connection.fetch(sql, *arguments)


def question(
    ledger: str, filters: Filters, before: Place | None, limit: int
) -> tuple[str, list[Any]]:
    """The statement of `find` and its parameters."""
    arguments: list[Any] = [ledger]

    def parameter(value: Any) -> str:
        arguments.append(value)
        return f"${len(arguments)}"

    names = ["t"]
    source, conditions = "ledger.transaction t", ["t.ledger = $1"]
    for number, (key, value) in enumerate(filters.metadata):
        name = f"m{number}"
        names.insert(0, name)
        source += f" join ledger.transaction_metadata {name} using (ledger, seq)"
        conditions += [f"{name}.ledger = $1", f"{name}.key = {parameter(key)}"]
        conditions.append(f"{name}.value = {parameter(value)}")

    for column in ("kind", "channel", "counterparty", "rail_reference"):
        value = getattr(filters, column)
        if value is not None:
            conditions.append(f"t.{column} = {parameter(value)}")
    until = filters.until_seq
    if before is not None and not filters.by_effective_time:
        until = min(until, before[1] - 1)
    first, last = parameter(filters.after_seq), parameter(until)
    # Said of each table: PostgreSQL passes equalities on through a join, not bounds.
    conditions += [f"{name}.seq > {first} and {name}.seq <= {last}" for name in names]
    order = f"{names[0]}.seq desc"
    if filters.by_effective_time:
        order = "t.effective_at desc, t.seq desc"
        if filters.effective_from is not None:
            conditions.append(f"t.effective_at >= {parameter(filters.effective_from)}")
        if filters.effective_to is not None:
            conditions.append(f"t.effective_at < {parameter(filters.effective_to)}")
        if before is not None:
            place = f"({parameter(before[0])}::timestamptz, {parameter(before[1])}::bigint)"
            conditions.append(f"(t.effective_at, t.seq) < {place}")
    sql = (
        f"with page as (select t.seq, t.effective_at from {source} "
        f"where {' and '.join(conditions)} order by {order} limit {parameter(limit)}) "
        "select page.*, j.bytes from page join ledger.journal j "
        "on j.ledger = $1 and j.seq = page.seq order by "
        + (
            "page.effective_at desc, page.seq desc"
            if filters.by_effective_time
            else "page.seq desc"
        )
    )
    return sql, arguments


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
