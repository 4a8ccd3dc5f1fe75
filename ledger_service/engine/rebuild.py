"""`tally rebuild`: derive a projection from the journal again, compare, put right what differs.

The rows that are due are made beside the table, in one snapshot, in which journal, positions and
tables agree: nobody waits. Only where rows differ are they replaced, in one commit under the lock of
who moves the table: the ledger's head, or the projection's position. A commit under the head raises
the epoch, so that the writer drops what it had loaded and reads again. Then all is compared again.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
import psycopg
from psycopg.rows import tuple_row

from ledger_service.engine.projections import PROJECTIONS, Projection, Table

_FOUND_MAX = 20
"""Places that a comparison names."""

_DERIVED_EVENTS = 100_000
"""Events that are derived in one statement."""


_TURN_BACK = """
  update ledger.projection p set seq = h.seq from ledger.head h
   where p.ledger = $1 and p.name = $2 and h.ledger = p.ledger and p.seq > h.seq
"""
"""A position ahead of the journal would let what comes next pass by."""


class RebuildError(Exception):
    """A rebuild that can't be carried out, or did not help; `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Outcome(msgspec.Struct, frozen=True):
    """What a rebuild of one projection found, and has put right."""

    ledger: str
    projection: str
    seq: int
    """Up to which event it was compared."""
    differing: dict[str, int]
    """Keys that differed, by table (accounts, for posting lists)."""
    places: list[str]
    """The first of them."""


class _Session:
    """A psycopg connection that takes the placeholders $1, $2, as the projections' text has them."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._cursor = psycopg.RawCursor(connection, row_factory=tuple_row)

    def run(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        self._cursor.execute(sql, arguments)  # type: ignore[arg-type] # text of our own
        return self._cursor.fetchall() if self._cursor.description else []

    def changed(self, sql: str, *arguments: Any) -> int:
        self._cursor.execute(sql, arguments)  # type: ignore[arg-type] # text of our own
        return self._cursor.rowcount


def rebuild(connection: psycopg.Connection[Any], ledger: str, projection: str) -> Outcome:
    """Rebuild one projection of one ledger; gives what had differed.

    `connection`: of the database's owner, or in the role of the rebuilder for what only readers use;
    outside a transaction. Errors: `RebuildError`
    (`unknown_projection`, `ledger_not_open`, `rebuild_differs`).
    """
    wanted = PROJECTIONS.get(projection)
    if wanted is None:
        names = ", ".join(PROJECTIONS)
        raise RebuildError("unknown_projection", f"There is no {projection!r}; there are {names}.")
    session = _Session(connection)
    if wanted.follows:
        session.run(_TURN_BACK, ledger, wanted.name)
    found = _compare(connection, session, ledger, wanted)
    if found.differing:
        with connection.transaction():
            _replace(session, ledger, wanted, found)
        again = _compare(connection, session, ledger, wanted)
        if again.differing:
            raise RebuildError(
                "rebuild_differs",
                f"{projection} of {ledger} still differs after a rebuild: {again.places}. "
                "Rebuild accounts first; if that does not help, run tally verify.",
            )
    _forget(session, wanted)
    return found


# --- comparing ----------------------------------------------------------------------------------


def _compare(
    connection: psycopg.Connection[Any], session: _Session, ledger: str, projection: Projection
) -> Outcome:
    """Make the due rows in temporary tables and the keys that differ in others, in one snapshot."""
    differing: dict[str, int] = {}
    places: list[str] = []
    with connection.transaction():
        session.run("set transaction isolation level repeatable read")
        seq = _position(session, ledger, projection, lock=False)
        for table in projection.tables:
            count, keys = _compare_table(session, ledger, projection, table, seq)
            if count:
                differing[table.name] = count
                places += [_named(table, key) for key in keys]
    return Outcome(ledger, projection.name, seq, differing, places[:_FOUND_MAX])


def derive(connection: psycopg.Connection[Any], ledger: str, seq: int, *, but: str = "") -> None:
    """Make every projection, but one, of a ledger that has its journal up to `seq` and nothing else.

    In the caller's transaction.
    """
    session = _Session(connection)
    for projection in PROJECTIONS.values():
        if projection.name == but:
            continue
        # What happens to an account later stands in the row of its opening: accounts go in one.
        width = seq if projection.name == "accounts" else _DERIVED_EVENTS
        for after in range(0, seq, width):
            session.run(projection.step(), ledger, after, min(after + width, seq))
        if projection.follows:
            session.run(
                "insert into ledger.projection values ($1, $2, $3)", ledger, projection.name, seq
            )


def drift(
    connection: psycopg.Connection[Any],
    ledger: str,
    projection: Projection,
    *,
    but: Collection[str] = (),
) -> Outcome:
    """What of a projection differs from the journal; only reads, in the caller's snapshot.

    `but`: tables left out. Errors: `RebuildError` (`ledger_not_open`).
    """
    session = _Session(connection)
    seq = _position(session, ledger, projection, lock=False)
    differing: dict[str, int] = {}
    places: list[str] = []
    for table in projection.tables:
        if table.name in but:
            continue
        keys = session.run(
            f"with {projection.sources}, due_{table.name} ({', '.join(table.columns)}) "
            f"as ({table.rows}) {_difference(table)}",
            ledger,
            0,
            seq,
        )
        if keys:
            differing[table.name] = len(keys)
            places += [_named(table, key) for key in keys]
    return Outcome(ledger, projection.name, seq, differing, places[:_FOUND_MAX])


def _position(session: _Session, ledger: str, projection: Projection, *, lock: bool) -> int:
    """`seq` at which a projection stands; with `lock` it stays there until the transaction ends."""
    how = " for update" if lock else ""
    head = session.run(
        f"select seq from ledger.head where ledger = $1{'' if projection.follows else how}", ledger
    )
    if not head:
        raise RebuildError("ledger_not_open", f"There is no ledger {ledger!r}.")
    if not projection.follows:
        return head[0][0]
    at = session.run(
        f"select seq from ledger.projection where ledger = $1 and name = $2{how}",
        ledger,
        projection.name,
    )
    return at[0][0] if at else 0


def _compare_table(
    session: _Session, ledger: str, projection: Projection, table: Table, seq: int
) -> tuple[int, list[tuple[Any, ...]]]:
    _forget_table(session, table)
    columns = ", ".join(table.columns)
    session.run(
        f"create temporary table due_{table.name} as "
        f"select ledger, {columns} from ledger.{table.name} with no data"
    )
    session.run(f"create unique index on due_{table.name} (ledger, {', '.join(table.key)})")
    session.run(projection.put(table, f"due_{table.name}"), ledger, 0, seq)
    session.run(f"analyze due_{table.name}")
    key = ", ".join(_place(table))
    count = session.changed(
        f"create temporary table differing_{table.name} as {_difference(table)}", ledger
    )
    return count, session.run(
        f"select {key} from differing_{table.name} order by {key} limit {_FOUND_MAX}"
    )


def _named(table: Table, key: tuple[Any, ...]) -> str:
    parts = [part.hex() if isinstance(part, bytes) else str(part) for part in key]
    return f"{table.name} {', '.join(parts)}"


def _place(table: Table) -> tuple[str, ...]:
    """By what rows are replaced: the key; posting lists by whole accounts."""
    return ("number",) if table.name == "posting_list" else table.key


_ENTRIES = (
    "select number, u.* from {source}, unnest(seqs, entry_nos, amounts, effective_dates) "
    "as u (seq, entry_no, amount, effective_date) {where}"
)


def _difference(table: Table) -> str:
    """A select of the places at which the due rows and those of $1 differ."""
    columns, key = ", ".join(table.columns), ", ".join(_place(table))
    due = f"select {columns} from due_{table.name}"
    stored = f"select {columns} from ledger.{table.name} where ledger = $1"
    if table.name == "posting_list":
        # the same entries may lie in other rows
        due = _ENTRIES.format(source="due_posting_list", where="")
        stored = _ENTRIES.format(source="ledger.posting_list", where="where ledger = $1")
    return (
        f"select distinct {key} from (({due} except all {stored}) "
        f"union all ({stored} except all {due})) as one_sided"
    )


# --- replacing ----------------------------------------------------------------------------------


def _replace(session: _Session, ledger: str, projection: Projection, found: Outcome) -> None:
    """Replace what differs, whoever moves the table waiting meanwhile."""
    seq = _position(session, ledger, projection, lock=True)
    for table in projection.tables:
        if table.name in found.differing:
            _bring_up(session, ledger, projection, table, since=found.seq, seq=seq)
            _replace_rows(session, ledger, table)
    if not projection.follows:
        session.run("update ledger.head set epoch = epoch + 1 where ledger = $1", ledger)


def _bring_up(
    session: _Session, ledger: str, projection: Projection, table: Table, *, since: int, seq: int
) -> None:
    """Bring the due rows that may have changed since they were made to where the table stands now."""
    due = f"due_{table.name}"
    if table.rewritten:
        session.run(f"truncate {due}")
        since = 0
    session.run(projection.put(table, due), ledger, since, seq)


def _replace_rows(session: _Session, ledger: str, table: Table) -> None:
    place = _place(table)
    same = " and ".join(f"t.{name} = d.{name}" for name in place)
    columns = ", ".join(table.columns)
    session.run(
        f"delete from ledger.{table.name} t using differing_{table.name} d "
        f"where t.ledger = $1 and {same}",
        ledger,
    )
    session.run(
        f"insert into ledger.{table.name} (ledger, {columns}) "
        f"select ledger, {columns} from due_{table.name} t "
        f"where exists (select from differing_{table.name} d where {same})"
    )


def _forget_table(session: _Session, table: Table) -> None:
    session.run(f"drop table if exists pg_temp.due_{table.name}, pg_temp.differing_{table.name}")


def _forget(session: _Session, projection: Projection) -> None:
    for table in projection.tables:
        _forget_table(session, table)
