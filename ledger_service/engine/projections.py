"""Every projection of the journal, each said once: which rows the journal makes due.

A projection is followed, compared and rebuilt by the same text. `rows` selects what is due of the
events after $2 up to $3 of the ledger $1, from the CTEs of `projection_sources`. One that `follows` is
brought up to date by the projector, after the commit; the others are written in the commit itself.
"""

from __future__ import annotations

import msgspec

from ledger_service.engine import projection_sources as sources
from ledger_service.engine.event_sql import account_of, same_digest

BITMAP_EVENTS = 512
"""Events of which a row of `ledger.transaction_bitmap` has a bit each."""

_DECLARED = "select seq, event_type, coalesce(event ->> 'rule', event ->> 'currency') from found"
_ACCRUED = (
    "select p.event #>> '{applied,rule}', a.number, p.seq from posted p "
    "cross join " + account_of("p.event #>> '{applied,account}'") + " "
    "where p.event #>> '{applied,period_start}' is not null"
)

_BITMAPS = f"""
  select f.field, f.value, p.seq / {BITMAP_EVENTS},
         bit_or(set_bit('0'::bit({BITMAP_EVENTS}), (p.seq % {BITMAP_EVENTS})::int, 1))
    from posted p cross join lateral (values
           ('kind', p.event ->> 'kind'),
           ('channel', coalesce(p.event #>> '{{context,channel}}', 'internal')),
           ('effective_at', case when (p.event ->> 'effective_at')::timestamptz = p.recorded_at
                                 then 'recorded_at' end)) as f (field, value)
   where f.value is not null
   group by 1, 2, 3
"""


class Table(msgspec.Struct, frozen=True):
    """One table of a projection; each has `ledger` as its first column."""

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    """Key and values, without `ledger`."""
    rows: str
    """A select of `columns` from the projection's sources."""
    sums: tuple[str, ...] = ()
    """Columns that grow: rows of later events are added to those of earlier ones ..."""
    unions: tuple[str, ...] = ()
    """... and columns of bits: those of either are set."""
    last: tuple[str, ...] = ()
    """Columns of which the later row's value stands."""
    rewritten: bool = False
    """Whether a later event changes a row: what is due is then derived as a whole."""
    repeats: bool = False
    """Whether later events make a row due that is there: then the first one stays."""

    def insert(self, into: str) -> str:
        """Put what is due into a table that stands at $2."""
        merged = [f"{name} = t.{name} + excluded.{name}" for name in self.sums]
        merged += [f"{name} = t.{name} | excluded.{name}" for name in self.unions]
        merged += [f"{name} = excluded.{name}" for name in self.last]
        clause = "on conflict do nothing" if self.repeats else ""
        if merged:
            place = ", ".join(("ledger", *self.key))
            clause = f"on conflict ({place}) do update set {', '.join(merged)}"
        return (
            f"insert into {into} as t (ledger, {', '.join(self.columns)}) "
            f"select $1, due.* from ({self.rows}) as due {clause}"
        )


class Projection(msgspec.Struct, frozen=True):
    """Tables that are derived from the same sources and move together."""

    name: str
    sources: str
    tables: tuple[Table, ...]
    follows: bool = False

    def due(self, table: Table) -> str:
        """A statement that selects what is due of one table."""
        return f"with {self.sources} {table.rows}"

    def put(self, table: Table, into: str) -> str:
        """A statement that puts what is due of one table into a table like it."""
        return f"with {self.sources} {table.insert(into)}"

    def step(self) -> str:
        """One statement that brings all its tables from $2 to $3."""
        made = [f"t{n} as ({t.insert(f'ledger.{t.name}')})" for n, t in enumerate(self.tables)]
        return f"with {self.sources}, {', '.join(made)} select 1"


_PROJECTIONS = (
    Projection(
        "accounts",
        sources.ACCOUNTS,
        (
            Table(
                "account",
                ("account",),
                (
                    "account", "number", "currency", "account_class", "normal_side", "custodial",
                    "gl_code", "owner", "floor", "ceiling", "status", "status_seq",
                ),
                "select o.event ->> 'account', o.seq, o.event ->> 'currency', "
                "o.event ->> 'account_class', o.event ->> 'normal_side', "
                "(o.event ->> 'custodial')::boolean, o.event ->> 'gl_code', o.event ->> 'owner', "
                "(o.event ->> 'floor')::numeric, (o.event ->> 'ceiling')::numeric, "
                "coalesce(s.status, 'open'), coalesce(s.status_seq, o.seq) "
                "from account_event o left join status s on s.account = o.event ->> 'account' "
                "where o.event_type = 'account.opened'",
                rewritten=True,
            ),
        ),
    ),
    Projection(
        "captures",
        sources.POSTED,
        (
            Table(
                "capture",
                ("hold", "seq"),
                ("hold", "seq"),
                "select (event ->> 'captures')::bigint, seq from posted where event ? 'captures'",
            ),
        ),
    ),
    Projection(
        "accruals", sources.POSTED,
        (Table("accrual", ("rule", "number", "seq"), ("rule", "number", "seq"), _ACCRUED),),
    ),
    Projection(
        "holds",
        sources.HOLDS,
        (
            Table(
                "hold",
                ("seq",),
                ("seq", "state", "version", "expires_at", "numbers", "amounts"),
                "select h.hold, h.state, h.version, (h.event ->> 'expires_at')::timestamptz, "
                "array_agg(r.number order by r.place), array_agg((case when h.state <> 'open' "
                "then 0 when r.side = 'debit' then r.amount else -r.amount end)::bigint "
                "order by r.place) "
                "from held h join rest r using (hold) group by 1, 2, 3, 4",
                last=("state", "version", "amounts"),
                rewritten=True,
            ),
        ),
    ),
    Projection(
        "periods",
        sources.PERIODS,
        (
            Table(
                "period",
                ("seq",),
                ("seq", "event_type", "day"),
                "select seq, event_type, coalesce(event ->> 'through', event ->> 'since', "
                "event ->> 'day')::date from found",
            ),
        ),
    ),
    Projection(
        "declarations", sources.DECLARATIONS,
        (Table("declaration", ("seq",), ("seq", "event_type", "name"), _DECLARED),),
    ),
    Projection(
        "balances",
        sources.MOVES,
        (
            Table(
                "balance",
                ("number",),
                (
                    "number", "debits", "credits", "pending_debits", "pending_credits", "version",
                ),
                "select number, coalesce(sum(amount) filter (where side = 'debit'), 0), "
                "coalesce(sum(amount) filter (where side = 'credit'), 0), "
                "coalesce(sum(pending) filter (where side = 'debit'), 0), "
                "coalesce(sum(pending) filter (where side = 'credit'), 0), max(seq) "
                "from (select number, seq, side, amount, pending from move union all "
                "select seq, 0, null, 0, 0 from ledger.journal where ledger = $1 and seq > $2 "
                "and seq <= $3 and event_type = 'account.opened') as moved group by number",
                sums=("debits", "credits", "pending_debits", "pending_credits"),
                last=("version",),
            ),
        ),
    ),
    Projection(
        "idempotency",
        sources.KEYED,
        (
            Table(
                "idempotency",
                ("digest",),
                ("digest", "seq", "request_hash"),
                # The hash covers what the caller wrote, which is not what was recorded: it can't be
                # derived. Where it is lost zeros stand, and a repeated key is answered with a
                # conflict that names the transaction: never with a second posting.
                "select p.digest, p.seq, coalesce(i.request_hash, decode(repeat('00', 32), 'hex')) "
                "from (select seq, decode(event ->> 'idempotency_digest', 'hex') as digest "
                f"from keyed) p left join ledger.idempotency i on {same_digest('i', 'p')} "
                "and i.ledger = $1 and i.seq = p.seq and length(i.request_hash) = 32",
            ),
        ),
    ),
    Projection(
        "reversals",
        sources.POSTED,
        (
            Table(
                "reversal",
                ("reverses", "seq"),
                ("reverses", "seq"),
                "select (event ->> 'reverses')::bigint, seq from posted where event ? 'reverses' "
                "and event ->> 'reverses' is not null",
            ),
        ),
    ),
    Projection(
        "history",
        sources.HISTORY,
        (
            # A row is one account's entries of one step. Steps are not in the journal, so what is
            # derived again is cut by seq; entries, not rows, are what is compared.
            Table(
                "posting_list",
                ("number", "last_seq"),
                ("number", "last_seq", "seqs", "entry_nos", "amounts", "effective_dates"),
                "select number, max(seq), array_agg(seq order by seq, entry_no), "
                "array_agg(entry_no order by seq, entry_no), "
                "array_agg(amount order by seq, entry_no), "
                "array_agg(effective_date order by seq, entry_no) "
                "from dated group by number, seq / 1024",
            ),
            Table(
                "recorded_day",
                ("recorded_date",),
                ("recorded_date", "first_seq"),
                "select d.first_day + width_bucket(j.recorded_at, d.starts) - 1, min(j.seq) "
                "from ledger.journal j cross join days d "
                "where j.ledger = $1 and j.seq > $2 and j.seq <= $3 group by 1",
                repeats=True,
            ),
            Table(
                "day_delta",
                ("number", "effective_date", "recorded_date"),
                ("number", "effective_date", "recorded_date", "debits", "credits"),
                "select number, effective_date, recorded_date, "
                "coalesce(sum(amount) filter (where amount > 0), 0), "
                "coalesce(-sum(amount) filter (where amount < 0), 0) "
                "from dated group by 1, 2, 3",
                sums=("debits", "credits"),
            ),
            Table(
                "value_dated_entry",
                ("number", "effective_date", "seq", "entry_no"),
                ("number", "effective_date", "seq", "entry_no", "amount"),
                "select number, effective_date, seq, entry_no, amount from dated "
                "where effective_date <> recorded_date",
            ),
            Table(
                "transaction",
                ("seq",),
                ("seq", "effective_at", "kind", "channel", "counterparty", "rail_reference"),
                "select seq, (event ->> 'effective_at')::timestamptz, event ->> 'kind', "
                "coalesce(event #>> '{context,channel}', 'internal'), "
                "event #>> '{context,counterparty}', event #>> '{context,rail_reference}' "
                "from posted",
            ),
            Table(
                "transaction_bitmap",
                ("field", "value", "block"),
                ("field", "value", "block", "bits"),
                _BITMAPS,
                unions=("bits",),
            ),
            Table(
                "value_dated_transaction",
                ("effective_at", "seq"),
                ("effective_at", "seq"),
                "select (event ->> 'effective_at')::timestamptz, seq from posted "
                "where (event ->> 'effective_at')::timestamptz <> recorded_at",
            ),
            Table(
                "transaction_metadata",
                ("key", "value", "seq"),
                ("key", "value", "seq"),
                "select m.key, m.value, p.seq "
                "from posted p cross join jsonb_each_text(p.event -> 'metadata') as m",
            ),
        ),
        follows=True,
    ),
)  # fmt: skip

PROJECTIONS = {projection.name: projection for projection in _PROJECTIONS}
"""By the name that `tally rebuild` takes, in the order in which one rests on another."""
HISTORY = PROJECTIONS["history"]
"""The one that follows after the commit: posting lists, day sums on both clocks, and the index of
transactions."""
