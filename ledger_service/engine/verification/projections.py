"""What follows from the journal: accounts, balances, links, posting lists, keys."""

from __future__ import annotations

import datetime as dt
import functools
import itertools
from collections.abc import Iterable, Iterator

import msgspec
import psycopg

from ledger_service.contract.events import timestamp
from ledger_service.engine.event_sql import entries, same_digest
from ledger_service.engine.fold import Multiset
from ledger_service.engine.projections import HISTORY
from ledger_service.engine.rebuild import drift
from ledger_service.engine.verification.journal import MONEY, stream
from ledger_service.engine.verification.report import Row, Scope

_PAGE = 5000
_BALANCE = (*MONEY, "version")
_ACCOUNTS = """
  select a.account, a.number, a.currency, a.account_class, a.normal_side, a.custodial, a.gl_code,
         a.owner, a.floor, a.ceiling, a.status, a.status_seq, b.debits, b.credits,
         b.pending_debits, b.pending_credits, b.version
    from ledger.account a left join ledger.balance b using (ledger, number)
   where a.ledger = %(ledger)s
"""
_UNOWNED_BALANCES = """
  select number from ledger.balance b
   where ledger = %(ledger)s and not exists
     (select from ledger.account a where a.ledger = b.ledger and a.number = b.number)
   limit 20
"""


def accounts(scope: Scope) -> None:
    """Accounts and balances are the fold of their events; incrementally, those that moved."""
    left = dict(scope.fold.accounts)
    for row in _account_rows(scope):
        name = row.pop("account")
        due = left.pop(name, None)
        facts = msgspec.structs.asdict(due) if due else {}
        for column, value in row.items():
            if facts.get(column) != value:
                table = "ledger.balance" if column in _BALANCE else "ledger.account"
                message = f"{column} is {value}, the journal says {facts.get(column)}"
                scope.add(
                    table, "differs_from_journal", message, seq=facts.get("version"), row=name
                )
    for name, due in itertools.islice(left.items(), 20):
        message = "the journal opened this account"
        scope.add("ledger.account", "row_missing", message, seq=due.number, row=name)
    if not scope.after:
        for row in scope.connection.execute(_UNOWNED_BALANCES, scope.parameters):
            message = "a balance of no account"
            scope.add("ledger.balance", "not_in_journal", message, row=str(row["number"]))


def _account_rows(scope: Scope) -> Iterator[Row]:
    if not scope.after:
        yield from stream(scope, _ACCOUNTS)
        return
    for names in _batches(scope.fold.accounts):
        sql = _ACCOUNTS + " and a.account = any(%(names)s)"
        yield from scope.connection.execute(sql, {**scope.parameters, "names": names})


def _batches(names: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(names)
    while batch := list(itertools.islice(rest, _PAGE)):
        yield batch


def reversals(scope: Scope) -> None:
    """The links that bound what may still be reversed are those that the events name."""
    rows = scope.connection.execute(
        "select reverses, seq from ledger.reversal where ledger = %(ledger)s and seq > %(after)s",
        scope.parameters,
    )
    stored = {(row["reverses"], row["seq"]) for row in rows}
    for reverses, seq in sorted(stored ^ scope.fold.reversals):
        message = f"the link to {reverses} is not in both places"
        scope.add(
            "ledger.reversal", "differs_from_journal", message, seq=seq, row=f"{reverses} {seq}"
        )
    for reverses, seq in scope.fold.reversals:
        if not 0 < reverses < seq:
            message = f"it reverses {reverses}, which does not come before it"
            scope.add("ledger.journal", "reverses_the_future", message, seq=seq)


_HOLDS = """
  select seq, state, version, expires_at, numbers, amounts from ledger.hold
   where ledger = %(ledger)s and version > %(after)s
"""


def holds(scope: Scope) -> None:
    """What is left of each hold, and what became of it, follows from its events."""
    fold = scope.fold
    left = {seq: held for seq, held in fold.holds.items() if held.version > scope.after}
    for row in stream(scope, _HOLDS):
        seq, held = row["seq"], left.pop(row["seq"], None)
        due: tuple[object, ...] | None = None
        if held is not None:
            numbers = [fold.accounts[leg[0]].number for leg in held.left]
            amounts = [a if leg[1] == "debit" else -a for leg, a in held.left.items()]
            due = (held.state, held.version, held.event.expires_at, numbers, amounts)
        expires_at = None if row["expires_at"] is None else timestamp(row["expires_at"])
        stored = (row["state"], row["version"], expires_at, row["numbers"], row["amounts"])
        if stored != due:
            message = f"it is {row['state']} with {row['amounts']} left"
            scope.add("ledger.hold", "differs_from_journal", message, seq=seq, row=str(seq))
    for seq in itertools.islice(left, 20):
        message = "the journal placed this hold"
        scope.add("ledger.hold", "row_missing", message, seq=seq, row=str(seq))


def captures(scope: Scope) -> None:
    """The links from holds to what captured them are those that the events name."""
    rows = scope.connection.execute(
        "select hold, seq from ledger.capture where ledger = %(ledger)s and seq > %(after)s",
        scope.parameters,
    )
    stored = {(row["hold"], row["seq"]) for row in rows}
    for hold, seq in sorted(stored ^ scope.fold.captures):
        message = f"the link to {hold} is not in both places"
        scope.add("ledger.capture", "differs_from_journal", message, seq=seq, row=f"{hold} {seq}")


def periods(scope: Scope) -> None:
    """The rows by which a writer learns what is closed are those of the events."""
    rows = scope.connection.execute(
        "select seq, event_type, day from ledger.period "
        "where ledger = %(ledger)s and seq > %(after)s",
        scope.parameters,
    )
    stored = {(row["seq"], row["event_type"], row["day"].isoformat()) for row in rows}
    for seq, kind, day in sorted(stored ^ scope.fold.periods):
        message = f"{kind} of {day} is not in both places"
        scope.add("ledger.period", "differs_from_journal", message, seq=seq, row=str(seq))


_APPROVALS = """
  select approval_id, consumed_seq from security.approval
   where consumed_ledger = %(ledger)s and consumed_seq > %(after)s
"""
_IMPORTED = """
  select coalesce(max((content::jsonb -> 'details' ->> 'seq')::bigint), 0) as seq
    from security.audit_log
   where action = 'ledger.imported' and content::jsonb ->> 'subject' = %(ledger)s
"""


def approvals(scope: Scope) -> None:
    """Each approval that was spent on this ledger is named by the event it was spent on (P12), and
    each rule names one from the first that did. Those of imported events are not here.
    """
    rows = scope.connection.execute(_APPROVALS, scope.parameters)
    spent = {(row["consumed_seq"], row["approval_id"]) for row in rows}
    imported = scope.connection.execute(_IMPORTED, scope.parameters).fetchone()["seq"]
    named = {(seq, name) for seq, name in scope.fold.approvals.items() if seq > imported}
    for seq, approval in sorted(spent ^ named):
        message = f"{approval} is not in both places"
        scope.add("security.approval", "differs_from_journal", message, seq=seq, row=approval)
    for seq in scope.fold.unapproved:
        scope.add("security.approval", "unapproved", "the rule names no approval", seq=seq)


_POSTING_LISTS = """
  select number, seqs, entry_nos, amounts, effective_dates from ledger.posting_list
   where ledger = %(ledger)s and last_seq > %(followed_before)s
"""
_DUE_ENTRIES = entries("%(first)s", "%(last)s", "%(ledger)s")
_ENTRIES = f"""
  with due as ({_DUE_ENTRIES}),
  stored as (
    select u.seq, u.entry_no, p.number, u.amount, u.effective_date, p.last_seq
      from ledger.posting_list p,
           unnest(p.seqs, p.entry_nos, p.amounts, p.effective_dates)
             as u (seq, entry_no, amount, effective_date)
     where p.ledger = %(ledger)s and p.last_seq > %(first)s and u.seq > %(first)s)
  select coalesce(d.seq, s.seq) as seq, coalesce(s.number, d.number) || ' ' ||
         coalesce(s.last_seq, d.seq) as name
    from due d full join stored s using (seq, entry_no)
   where (d.number, d.amount, d.effective_date)
         is distinct from (s.number, s.amount, s.effective_date)
   order by 1 limit 20
"""

_KEYS = f"""
  with due as (
    select seq, decode(convert_from(bytes, 'UTF8')::jsonb ->> 'idempotency_digest', 'hex') as digest
      from ledger.journal
     where ledger = %(ledger)s and seq > %(after)s
       and event_type in ('transaction.posted', 'hold.placed', 'hold.released'))
  select d.seq from due d left join ledger.idempotency i on {same_digest("i", "d")}
   where d.digest is not null
     and (i.ledger is distinct from %(ledger)s or i.seq is distinct from d.seq
      or length(i.request_hash) <> 32)
   order by 1 limit 20
"""

_FOREIGN_KEYS = """
  select i.seq, encode(i.digest, 'hex') as name
    from ledger.idempotency i left join ledger.journal j using (ledger, seq)
   where i.ledger = %(ledger)s and encode(i.digest, 'hex')
         is distinct from convert_from(j.bytes, 'UTF8')::jsonb ->> 'idempotency_digest'
   order by 1 limit 20
"""


def posting_lists(scope: Scope) -> None:
    """Posting lists hold the journal's entries, each once, as far as the history stands."""
    table = "ledger.posting_list"
    since, until = scope.followed_before, scope.followed
    stored = Multiset()
    for row in stream(scope, _POSTING_LISTS):
        columns = (row["seqs"], row["entry_nos"], row["amounts"], row["effective_dates"])
        for seq, entry_no, amount, date in zip(*columns, strict=False):
            if seq > since:
                stored.add((seq, entry_no, row["number"], amount, _day(date)))
    try:
        due = scope.fold.entries.total + _entries(scope, since, scope.after)
        due -= _entries(scope, until, scope.head["seq"])
    except psycopg.DataError:
        scope.add(table, "not_comparable", "the journal holds bytes that are no event")
        return
    if stored.total == due % Multiset.SIZE:
        return
    for row in _compared(scope, _ENTRIES, table, first=since, last=until):
        message = "an entry is not as in the journal"
        name = row["name"] or ""
        scope.add(table, "differs_from_journal", message, seq=row["seq"], row=name)


def _entries(scope: Scope, first: int, last: int) -> int:
    """Total of the entries of events past `first`, up to `last`. Errors: psycopg.DataError."""
    found = Multiset()
    if first < last:
        with scope.connection.transaction():
            rows = scope.connection.execute(
                _DUE_ENTRIES, {**scope.parameters, "first": first, "last": last}
            )
            for row in rows:
                day = _day(row["effective_date"])
                found.add((row["seq"], row["entry_no"], row["number"], row["amount"], day))
    return found.total


_day = functools.lru_cache(maxsize=4096)(dt.date.isoformat)


def idempotency(scope: Scope) -> None:
    """Every transaction has the key that keeps it from being applied twice."""
    table = "ledger.idempotency"
    if not scope.after and _same_keys(scope):
        return
    for row in _compared(scope, _KEYS, table):
        message = "the key's digest is not as in the journal"
        scope.add(table, "differs_from_journal", message, seq=row["seq"], row=f"seq {row['seq']}")
    if scope.after:
        return  # a key of no transaction refuses what is new, and harms nothing else: full runs see
    for row in _compared(scope, _FOREIGN_KEYS, table):
        message = "a key of no transaction"
        scope.add(table, "not_in_journal", message, seq=row["seq"], row=row["name"])


def _same_keys(scope: Scope) -> bool:
    stored = Multiset()
    sql = (
        "select digest, seq, length(request_hash) as length from ledger.idempotency "
        "where ledger = %(ledger)s"
    )
    whole = True
    for row in stream(scope, sql):
        stored.add((row["digest"], row["seq"]))
        whole = whole and row["length"] == 32
    return whole and stored.total == scope.fold.keys.total


def _compared(scope: Scope, sql: str, table: str, **parameters: int) -> list[Row]:
    try:
        with scope.connection.transaction():
            return scope.connection.execute(sql, {**scope.parameters, **parameters}).fetchall()
    except psycopg.DataError:
        scope.add(table, "not_comparable", "the journal holds bytes that are no event")
        return []


def followers(scope: Scope) -> None:
    """What follows the journal beside the posting lists, as far as it has come; in full runs."""
    rows = scope.connection.execute(
        "select name, seq from ledger.projection where ledger = %(ledger)s", scope.parameters
    )
    for row in rows.fetchall():
        if row["name"] != HISTORY.name or row["seq"] > scope.head["seq"]:
            message = f"{row['name']} stands at {row['seq']}, the journal at {scope.head['seq']}"
            scope.add("ledger.projection", "ahead_of_journal", message, row=row["name"])
            return
    if scope.after:
        return
    try:
        with scope.connection.transaction():
            found = drift(scope.connection, scope.ledger, HISTORY, but=("posting_list",))
    except psycopg.DataError:
        message = "the journal holds bytes that are no event"
        scope.add("ledger.projection", "not_comparable", message, row=HISTORY.name)
        return
    for table, count in found.differing.items():
        place = next((place for place in found.places if place.startswith(f"{table} ")), "")
        message = f"{count} places differ"
        scope.add(f"ledger.{table}", "differs_from_journal", message, row=place)
