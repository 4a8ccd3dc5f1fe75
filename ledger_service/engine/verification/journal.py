"""Journal, tree and head: every event's bytes hashed again, up to the root that the head states.

Incrementally, the tree goes on from the root that was found sound before: its right edge is read
back and must still give that root.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import msgspec

from ledger_service.contract import events
from ledger_service.contract.events import JournalEvent, decode_journal
from ledger_service.domain.hold import hold
from ledger_service.engine.fold import AccountFold, hold_of, names_in
from ledger_service.engine.merkle import TILE_WIDTH, Tile, Tree, edge_ranges, leaf_hash
from ledger_service.engine.verification import rules
from ledger_service.engine.verification.report import Row, Scope
from ledger_service.engine.verification.signatures import SignedSizes

_PAGE = 2000
MONEY = ("debits", "credits", "pending_debits", "pending_credits")
"""Columns of a balance."""

_EVENTS = (
    "select seq, event_type, recorded_at, bytes, leaf_hash from ledger.journal "
    "where ledger = %(ledger)s and seq > %(after)s order by seq"
)


def stream(scope: Scope, sql: str, name: str = "verify") -> Iterator[Row]:
    """Rows of a server-side cursor, so that memory stays bounded."""
    with scope.connection.cursor(name) as cursor:
        cursor.itersize = _PAGE
        cursor.execute(sql, scope.parameters)
        yield from cursor


def check(scope: Scope) -> None:
    """Fold the journal behind `scope.after`, and hold tree, tiles, head and checkpoints to it."""
    remembered = _remembered(scope)
    tree = _verified_tree(scope, remembered)
    with SignedSizes(scope) as signed:
        due_tiles = _walk(scope, tree, signed, remembered)
    if due_tiles is None:
        return
    _head(scope, tree)
    if not scope.after:
        _number_of_tiles(scope, due_tiles)
    if remembered.get("seq", 0) > tree.size:
        message = f"{remembered['seq']} events were verified, the journal ends at {tree.size}"
        scope.add("ledger.verified", "beyond_journal", message, row=scope.ledger)


def _walk(scope: Scope, tree: Tree, signed: SignedSizes, remembered: Row) -> int | None:
    """Take every event into tree and fold; gives how many tiles it filled, None at a gap."""
    due_tiles = 0
    rows = stream(scope, _EVENTS)
    while page := list(itertools.islice(rows, _PAGE)):
        found = [_decoded(scope, row) for row in page]
        if scope.after:
            _load_holds(scope, found)
            _load_accounts(scope, found)
        rules.load(scope, found, at=tree.size)
        for row, event in zip(page, found, strict=True):
            if row["seq"] != tree.size + 1:
                message = f"after {tree.size} comes {row['seq']}"
                scope.add("ledger.journal", "gap", message, seq=tree.size + 1)
                return None  # nothing behind a gap has the place in the tree that it should have
            hashed = leaf_hash(row["bytes"])
            if hashed != row["leaf_hash"]:
                message = "bytes and leaf hash differ"
                scope.add("ledger.journal", "bytes_changed", message, seq=row["seq"])
            if event is not None:
                _facts(scope, row, event)
            for tile in tree.extend([hashed]):
                due_tiles += 1
                _tile(scope, tile)
            signed.reached(tree)
            if tree.size == remembered.get("seq"):
                _remembered_root(scope, tree, remembered)
        rules.check_interest(scope)
    signed.finish()
    return due_tiles


def _verified_tree(scope: Scope, remembered: Row) -> Tree:
    if not scope.after:
        return Tree()
    edges = [
        _stored(scope, level, start, count)
        for level, (start, count) in enumerate(edge_ranges(scope.after))
    ]
    tree = Tree(edges, scope.after)
    if [len(edge) for edge in edges] != [n for _, n in edge_ranges(scope.after)] or (
        tree.root() != remembered["root"]
    ):
        message = f"the tree of the first {scope.after} events is not the one verified before"
        scope.add("ledger.journal", "verified_history_changed", message, seq=scope.after)
    return tree


def _stored(scope: Scope, level: int, start: int, count: int) -> Sequence[bytes]:
    place = {**scope.parameters, "level": level - 1, "start": start, "end": start + count}
    sql = (
        "select root as hash from ledger.tile where ledger = %(ledger)s and level = %(level)s "
        "and tile_index >= %(start)s and tile_index < %(end)s order by tile_index"
        if level
        else "select leaf_hash as hash from ledger.journal where ledger = %(ledger)s "
        "and seq > %(start)s and seq <= %(end)s order by seq"
    )
    return [row["hash"] for row in scope.connection.execute(sql, place)]


def _remembered(scope: Scope) -> Row:
    row = scope.connection.execute(
        "select seq, root from ledger.verified where ledger = %(ledger)s", scope.parameters
    ).fetchone()
    return row or {}


def _decoded(scope: Scope, row: Row) -> JournalEvent | None:
    try:
        return decode_journal(row["bytes"])
    except (msgspec.ValidationError, msgspec.DecodeError):
        scope.add("ledger.journal", "not_an_event", "the bytes are no event", seq=row["seq"])
        return None


def _facts(scope: Scope, row: Row, event: JournalEvent) -> None:
    seq, fold = row["seq"], scope.fold
    facts = {
        "not_canonical": events.encode(event) != row["bytes"],
        "wrong_ledger": event.ledger != scope.ledger,
        "wrong_seq": event.seq != seq,
        "wrong_type": events.event_type(event) != row["event_type"],
        "wrong_time": events.timestamp(row["recorded_at"]) != event.recorded_at,
        "time_goes_back": event.recorded_at < fold.recorded_at,
    }
    for code, is_wrong in facts.items():
        if is_wrong:
            scope.add("ledger.journal", code, code.replace("_", " "), seq=seq)
    fold.recorded_at = max(fold.recorded_at, event.recorded_at)
    try:
        if not fold.apply(event):
            scope.add("ledger.journal", "unbalanced", "debits and credits differ", seq=seq)
    except (KeyError, ValueError):
        message = "an account or amount is not known"
        scope.add("ledger.journal", "not_applicable", message, seq=seq)


def _load_holds(scope: Scope, found: Sequence[JournalEvent | None]) -> None:
    """Bring into the fold the holds that the page's events change, as far as they were verified."""
    known = scope.fold.holds
    named = {number for event in found if (number := hold_of(event)) is not None} - known.keys()
    if not named:
        return
    rows = scope.connection.execute(
        "select j.bytes from ledger.journal j where j.ledger = %(ledger)s and j.seq <= %(after)s "
        "and (j.seq = any(%(named)s) or j.seq in (select c.seq from ledger.capture c "
        "where c.ledger = %(ledger)s and c.hold = any(%(named)s))) order by j.seq",
        {**scope.parameters, "named": list(named)},
    )
    for row in rows:
        event = decode_journal(row["bytes"])
        if isinstance(event, events.HoldPlaced):
            known[event.seq] = hold(event)
        elif isinstance(event, events.TransactionPosted) and event.captures in known:
            known[event.captures].take(event.entries)


def _load_accounts(scope: Scope, found: Sequence[JournalEvent | None]) -> None:
    """Bring into the fold what the page's events rest on, as it was verified before."""
    known = scope.fold.accounts
    named = {name for event in found if event for name in names_in(event)}
    held = (scope.fold.holds.get(hold_of(event) or 0) for event in found)
    named |= {leg[0] for one in held if one for leg in one.left}
    named -= known.keys()
    if not named:
        return
    rows = scope.connection.execute(
        "select a.account, a.number, a.currency, a.account_class, a.normal_side, a.custodial, "
        "a.gl_code, a.owner, a.floor, a.ceiling, a.status, a.status_seq, "
        "coalesce(b.debits, 0) as debits, coalesce(b.credits, 0) as credits, "
        "coalesce(b.pending_debits, 0) as pending_debits, "
        "coalesce(b.pending_credits, 0) as pending_credits, coalesce(b.version, 0) as version "
        "from ledger.account a left join ledger.verified_balance b using (ledger, number) "
        "where a.ledger = %(ledger)s and a.number <= %(after)s and a.account = any(%(named)s)",
        {**scope.parameters, "named": list(named)},
    )
    for row in rows:
        name = row.pop("account")
        money = {column: int(row[column]) for column in MONEY}
        known[name] = AccountFold(**{**row, **money})


def _tile(scope: Scope, tile: Tile) -> None:
    row = scope.connection.execute(
        "select hashes, root from ledger.tile where ledger = %s and level = %s and tile_index = %s",
        (scope.ledger, tile.level, tile.index),
    ).fetchone()
    if row is not None and (row["hashes"], row["root"]) == (tile.hashes, tile.root):
        return
    name = f"{tile.level}/{tile.index}"
    hashes = row["hashes"] if row else b""
    for offset in range(TILE_WIDTH):
        place = slice(32 * offset, 32 * offset + 32)
        if hashes[place] != tile.hashes[place]:
            seq = (tile.index * TILE_WIDTH + offset) * TILE_WIDTH**tile.level + 1
            message = f"level {tile.level}, from this event"
            scope.add("ledger.tile", "tile_differs", message, seq=seq, row=name)
            return
    scope.add("ledger.tile", "tile_root", f"the root of tile {name} differs", row=name)


def _number_of_tiles(scope: Scope, due: int) -> None:
    row = scope.connection.execute(
        "select count(*) as stored from ledger.tile where ledger = %(ledger)s", scope.parameters
    ).fetchone()
    if row["stored"] != due:
        message = f"{due} tiles are due, {row['stored']} are stored"
        scope.add("ledger.tile", "tile_count", message)


def _head(scope: Scope, tree: Tree) -> None:
    head = scope.head
    if tree.size != head["seq"]:
        message = f"the head says {head['seq']}, the journal ends at {tree.size}"
        scope.add("ledger.head", "wrong_seq", message, row=scope.ledger)
    if tree.root() != head["root"]:
        message = "the journal's root is not the head's"
        scope.add("ledger.head", "wrong_root", message, seq=head["seq"], row=scope.ledger)
    recorded = head["recorded_at"]
    if tree.size > scope.after and (
        recorded is None or events.timestamp(recorded) != scope.fold.recorded_at
    ):
        message = "the head's time is not that of the last event"
        scope.add("ledger.head", "wrong_time", message, seq=head["seq"], row=scope.ledger)


def _remembered_root(scope: Scope, tree: Tree, remembered: Row) -> None:
    """A full run holds what the incremental runs remember to the same journal."""
    if tree.root() != remembered["root"]:
        message = f"the root remembered at {tree.size} is not the journal's"
        scope.add("ledger.verified", "wrong_root", message, seq=tree.size, row=scope.ledger)
    due = {account.number: account for account in scope.fold.accounts.values() if account.version}
    sql = (
        "select number, debits, credits, pending_debits, pending_credits, version "
        "from ledger.verified_balance "
        "where ledger = %(ledger)s"
    )
    for row in stream(scope, sql, "remembered"):
        account = due.pop(row["number"], None)
        columns = (*MONEY, "version")
        stored = [row[column] for column in columns]
        if stored != [getattr(account, column, 0) for column in columns]:
            message = "a remembered balance is not the journal's"
            scope.add(
                "ledger.verified_balance", "differs_from_journal", message, row=str(row["number"])
            )
    for number in list(due)[:1]:
        message = "a balance is not remembered"
        scope.add("ledger.verified_balance", "row_missing", message, row=str(number))
