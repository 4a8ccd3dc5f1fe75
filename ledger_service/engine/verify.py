"""`tally verify`: every promise about stored data, derived again from the journal's bytes.

One read-only snapshot; whatever is not as it must be becomes a Finding that names the place. Each
table of schema ledger has a check here, and one that has none is a finding itself.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import msgspec
import psycopg
from psycopg.rows import dict_row

from ledger_service.contract import events
from ledger_service.contract.events import decode_journal
from ledger_service.engine import checkpoints
from ledger_service.engine.fold import Fold
from ledger_service.engine.merkle import EMPTY_ROOT, TILE_WIDTH, Tree, leaf_hash
from ledger_service.engine.projections import HISTORY
from ledger_service.engine.rebuild import drift

_FETCH = 2000
_MAX_FINDINGS = 100
Row = dict[str, Any]
Connection = Any
"""A psycopg connection whose rows are dicts."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not as it must be."""

    table: str
    ledger: str
    seq: int | None
    code: str
    message: str


class Report(msgspec.Struct):
    """What was looked at, and what was found."""

    ledgers: dict[str, int]
    """`seq` up to which each was verified."""
    tables: list[str]
    full: bool
    findings: list[Finding]

    def add(self, table: str, ledger: str, code: str, message: str, seq: int | None = None) -> None:
        """Note a finding; after the first hundred they only cost time."""
        if len(self.findings) < _MAX_FINDINGS:
            self.findings.append(Finding(table, ledger, seq, code, message))

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


CHECKED = {
    "journal": "_journal",
    "head": "_journal",
    "tile": "_journal",
    "account": "_accounts",
    "balance": "_accounts",
    "reversal": "_reversals",
    "checkpoint": "_checkpoints",
    "cosignature": "_checkpoints",
    "posting_list": "_posting_lists",
    "idempotency": "_idempotency",
    "lease": "_leases",
    "projection": "_followers",
    **{table.name: "_followers" for table in HISTORY.tables},
}
"""Which check looks at which table."""


def verify(url: str, ledger: str | None, *, full: bool, keys: Keys | None = None) -> Report:
    """Verify one ledger or all. Without `full`, posting lists and keys are left out."""
    keys = keys or Keys()
    with _connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        report = Report({}, [], full, [])
        _tables(connection, report)
        heads = connection.execute("select ledger, seq, root from ledger.head order by ledger")
        for head in heads.fetchall():
            if ledger in (None, head["ledger"]):
                _ledger(connection, report, head, keys)
        if ledger is not None and ledger not in report.ledgers:
            report.add("head", ledger, "ledger_not_open", "there is no such ledger")
        _leases(connection, report)
    return report


def _connect(url: str) -> Connection:
    rows: Any = dict_row
    return psycopg.connect(url, row_factory=rows)


class Keys(msgspec.Struct, frozen=True):
    """Public keys that signatures are checked with; without one they are not."""

    log: bytes | None = None
    witness: bytes | None = None

    @classmethod
    def from_text(cls, log: str, witness: str) -> Keys:
        """From base64; an empty text is no key."""
        decoded = [base64.b64decode(text) if text else None for text in (log, witness)]
        return cls(*decoded)


def _tables(connection: Connection, report: Report) -> None:
    rows = connection.execute(
        "select c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "where n.nspname = 'ledger' and c.relkind in ('r', 'p') and not c.relispartition order by 1"
    )
    for row in rows:
        report.tables.append(row["name"])
        if row["name"] not in CHECKED:
            report.add(row["name"], "", "table_without_check", "tally verify has no check for it")


def _ledger(connection: Connection, report: Report, head: Row, keys: Keys) -> None:
    ledger = head["ledger"]
    fold = _journal(connection, report, head)
    _accounts(connection, report, ledger, fold)
    _reversals(connection, report, ledger, fold)
    _checkpoints(connection, report, ledger, fold, keys)
    if report.full:
        _posting_lists(connection, report, ledger)
        _idempotency(connection, report, ledger)
        _followers(connection, report, ledger, head["seq"])
    report.ledgers[ledger] = head["seq"]


def _stream(connection: Connection, sql: str, ledger: str) -> Iterator[Row]:
    with connection.cursor("verify", row_factory=dict_row) as cursor:
        cursor.itersize = _FETCH
        cursor.execute(sql, (ledger,))
        yield from cursor


# --- journal, tree, head ------------------------------------------------------------------------


def _journal(connection: Connection, report: Report, head: Row) -> Fold:
    ledger, tree, fold = head["ledger"], Tree(), Fold()
    sizes = {
        row["size"]
        for row in connection.execute(
            "select size from ledger.checkpoint where ledger = %s", (ledger,)
        )
    }
    expected = 1
    for row in _stream(
        connection,
        "select seq, event_type, recorded_at, bytes, leaf_hash from ledger.journal "
        "where ledger = %s order by seq",
        ledger,
    ):
        if row["seq"] != expected:
            report.add(
                "journal", ledger, "gap", f"after {expected - 1} comes {row['seq']}", expected
            )
            expected = row["seq"]
        hashed = leaf_hash(row["bytes"])
        if hashed != row["leaf_hash"]:
            report.add("journal", ledger, "bytes_changed", "bytes and leaf hash differ", row["seq"])
        _event(report, ledger, row, fold)
        for tile in tree.append(hashed):
            _tile(connection, report, ledger, fold, tile)
        if tree.size in sizes:
            fold.roots[tree.size] = tree.root()
        expected += 1
    fold.roots[tree.size] = tree.root()
    if expected - 1 != head["seq"]:
        message = f"the head says {head['seq']}, the journal ends at {expected - 1}"
        report.add("head", ledger, "wrong_seq", message)
    if (tree.root() if tree.size else EMPTY_ROOT) != head["root"]:
        report.add(
            "head", ledger, "wrong_root", "the journal's root is not the head's", head["seq"]
        )
    stored = connection.execute(
        "select count(*) as number from ledger.tile where ledger = %s", (ledger,)
    ).fetchone()
    if stored is None or stored["number"] != fold.tiles:
        report.add("tile", ledger, "tile_count", f"{fold.tiles} tiles are due, {stored} are stored")
    return fold


def _tile(connection: Connection, report: Report, ledger: str, fold: Fold, tile: Any) -> None:
    fold.tiles += 1
    row = connection.execute(
        "select hashes, root from ledger.tile where ledger = %s and level = %s and tile_index = %s",
        (ledger, tile.level, tile.index),
    ).fetchone()
    if row is not None and (row["hashes"], row["root"]) == (tile.hashes, tile.root):
        return
    first = tile.index * TILE_WIDTH
    hashes = row["hashes"] if row else b""
    for offset in range(TILE_WIDTH):
        place = slice(32 * offset, 32 * offset + 32)
        if hashes[place] != tile.hashes[place]:
            seq = (first + offset) * TILE_WIDTH**tile.level + 1
            report.add("tile", ledger, "tile_differs", f"level {tile.level}, from this event", seq)
            return
    report.add("tile", ledger, "tile_root", f"root of tile {tile.level}/{tile.index} differs")


def _event(report: Report, ledger: str, row: Row, fold: Fold) -> None:
    seq = row["seq"]
    try:
        event = decode_journal(row["bytes"])
    except (msgspec.ValidationError, msgspec.DecodeError):
        report.add("journal", ledger, "not_an_event", "the bytes are no event", seq)
        return
    facts = {
        "not_canonical": events.encode(event) != row["bytes"],
        "wrong_ledger": event.ledger != ledger,
        "wrong_seq": event.seq != seq,
        "wrong_type": events.event_type(event) != row["event_type"],
        "wrong_time": events.timestamp(row["recorded_at"]) != event.recorded_at,
        "time_goes_back": event.recorded_at < fold.recorded_at,
    }
    for code, is_wrong in facts.items():
        if is_wrong:
            report.add("journal", ledger, code, code.replace("_", " "), seq)
    fold.recorded_at = max(fold.recorded_at, event.recorded_at)
    try:
        if not fold.apply(event):
            report.add("journal", ledger, "unbalanced", "debits and credits differ", seq)
    except (KeyError, ValueError):
        report.add("journal", ledger, "not_applicable", "an account or amount is not known", seq)


# --- projections --------------------------------------------------------------------------------


def _accounts(connection: Connection, report: Report, ledger: str, fold: Fold) -> None:
    seen = 0
    for row in _stream(
        connection,
        "select a.account, a.number, a.currency, a.status, a.status_seq, b.debits, b.credits, "
        "b.version from ledger.account a left join ledger.balance b using (ledger, number) "
        "where a.ledger = %s",
        ledger,
    ):
        seen += 1
        name = row.pop("account")
        due = fold.accounts.get(name)
        facts = msgspec.structs.asdict(due) if due else {}
        for column, value in row.items():
            if facts.get(column) != value:
                table = "balance" if column in ("debits", "credits", "version") else "account"
                message = f"{name}: {column} is {value}, the journal says {facts.get(column)}"
                report.add(table, ledger, "differs_from_journal", message, facts.get("version"))
    if seen != len(fold.accounts):
        message = f"{seen} accounts, the journal opened {len(fold.accounts)}"
        report.add("account", ledger, "account_count", message)
    total = connection.execute(
        "select count(*) as number from ledger.balance where ledger = %s", (ledger,)
    ).fetchone()
    if total is None or total["number"] != len(fold.accounts):
        report.add("balance", ledger, "balance_count", "not one balance for each account")


def _reversals(connection: Connection, report: Report, ledger: str, fold: Fold) -> None:
    rows = connection.execute(
        "select reverses, seq from ledger.reversal where ledger = %s", (ledger,)
    )
    stored = {(row["reverses"], row["seq"]) for row in rows}
    for reverses, seq in stored ^ fold.reversals:
        message = f"link to {reverses} is not in both places"
        report.add("reversal", ledger, "differs_from_journal", message, seq)


_ENTRIES = """
  with due as (
    select j.seq, e.number - 1 as entry_no, a.number as account,
           case e.entry ->> 'side' when 'debit' then 1 else -1 end
             * (e.entry ->> 'amount')::numeric as amount,
           (j.event ->> 'effective_date')::date as effective_date
      from (select seq, convert_from(bytes, 'UTF8')::jsonb as event from ledger.journal
             where ledger = %(ledger)s and event_type = 'transaction.posted') j
           cross join jsonb_array_elements(j.event -> 'entries')
             with ordinality as e (entry, number)
           left join ledger.account a
             on a.ledger = %(ledger)s and a.account = e.entry ->> 'account'),
  stored as (
    select u.seq, u.entry_no, p.number as account, u.amount, u.effective_date
      from ledger.posting_list p,
           unnest(p.seqs, p.entry_nos, p.amounts, p.effective_dates)
             as u (seq, entry_no, amount, effective_date)
     where p.ledger = %(ledger)s)
  select coalesce(d.seq, s.seq) as seq
    from due d full join stored s using (seq, entry_no)
   where (d.account, d.amount, d.effective_date)
         is distinct from (s.account, s.amount::numeric, s.effective_date)
   order by 1 limit 20
"""

_KEYS = """
  with due as (
    select seq, convert_from(bytes, 'UTF8')::jsonb ->> 'idempotency_digest' as digest
      from ledger.journal where ledger = %(ledger)s and event_type = 'transaction.posted')
  select coalesce(d.seq, i.seq) as seq
    from due d full join (select * from ledger.idempotency where ledger = %(ledger)s) i using (seq)
   where d.digest is distinct from encode(i.digest, 'hex') or length(i.request_hash) <> 32
   order by 1 limit 20
"""


def _posting_lists(connection: Connection, report: Report, ledger: str) -> None:
    for row in _compare(connection, report, _ENTRIES, "posting_list", ledger):
        message = "an entry is not as in the journal"
        report.add("posting_list", ledger, "differs_from_journal", message, row["seq"])


def _idempotency(connection: Connection, report: Report, ledger: str) -> None:
    for row in _compare(connection, report, _KEYS, "idempotency", ledger):
        message = "the key's digest is not as in the journal"
        report.add("idempotency", ledger, "differs_from_journal", message, row["seq"])


def _followers(connection: Connection, report: Report, ledger: str, head: int) -> None:
    """What follows the journal, as far as it has come."""
    rows = connection.execute(
        "select name, seq from ledger.projection where ledger = %s", (ledger,)
    )
    ahead = [row for row in rows if row["name"] != HISTORY.name or row["seq"] > head]
    for row in ahead:
        message = f"{row['name']} stands at {row['seq']}, the journal at {head}"
        report.add("projection", ledger, "ahead_of_journal", message, row["seq"])
    try:
        with connection.transaction():
            differing = {} if ahead else drift(connection, ledger, HISTORY).differing
    except psycopg.DataError:
        report.add("projection", ledger, "not_comparable", "the journal holds what is no event")
        return
    for table, count in differing.items():
        message = f"{count} places differ: see tally rebuild"
        report.add(table, ledger, "differs_from_journal", message)


def _compare(
    connection: Connection, report: Report, sql: str, table: str, ledger: str
) -> list[Row]:
    try:
        with connection.transaction():
            return connection.execute(sql, {"ledger": ledger}).fetchall()
    except psycopg.DataError:
        report.add(table, ledger, "not_comparable", "the journal holds bytes that are no event")
        return []


# --- checkpoints and leases ---------------------------------------------------------------------


def _checkpoints(
    connection: Connection, report: Report, ledger: str, fold: Fold, keys: Keys
) -> None:
    rows = connection.execute(
        "select c.size, c.root, c.note, s.line, s.witness from ledger.checkpoint c "
        "left join ledger.cosignature s using (ledger, size) where c.ledger = %s order by c.size",
        (ledger,),
    )
    sound_until = 0
    for row in rows.fetchall():
        size = row["size"]
        try:
            note = checkpoints.parse(row["note"])
            if keys.log is not None:
                checkpoints.verify(row["note"], keys.log)
            if row["line"] is not None and keys.witness is not None:
                checkpoints.verify_cosignature(note, row["line"], row["witness"], keys.witness)
        except checkpoints.CheckpointError as error:
            report.add("checkpoint", ledger, "bad_signature", str(error), size)
            continue
        if (note.size, note.root) != (size, row["root"]):
            report.add("checkpoint", ledger, "note_differs", "note and row differ", size)
        if fold.roots.get(size) != note.root:
            message = f"an event from {sound_until + 1} to {size} is not what was signed"
            report.add("checkpoint", ledger, "root_differs", message, size)
        else:
            sound_until = size


def _leases(connection: Connection, report: Report) -> None:
    rows = connection.execute(
        "select ledger from ledger.lease where ledger <> '*' "
        "and (holder = '' or address = '' or ledger not in (select ledger from ledger.head))"
    )
    for row in rows:
        report.add("lease", row["ledger"], "bad_lease", "a lease without ledger, holder or address")
