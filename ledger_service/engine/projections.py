"""Every projection of the journal, each said once: which rows the journal makes due.

A projection is followed, compared and rebuilt by the same text. `rows` selects what is due of the
events after $2 up to $3 of the ledger $1, from the CTEs of `sources`. One that `follows` is brought up
to date by the projector, after the commit; the others are written in the commit itself.
"""

from __future__ import annotations

import msgspec

from ledger_service.engine.event_sql import account_of, same_digest

_POSTED = """
  posted as materialized (
    select seq, recorded_at, convert_from(bytes, 'UTF8')::jsonb as event from ledger.journal
     where ledger = $1 and seq > $2 and seq <= $3 and event_type = 'transaction.posted')
"""


def _entries(event: str) -> str:
    """What `event` is joined with to have each of its entries, its place (from 1) and its account."""
    return (
        f"cross join jsonb_array_elements({event} -> 'entries') with ordinality as e (entry, place) "
        "cross join " + account_of("e.entry ->> 'account'")
    )


_ENTRY = f"""
  {_POSTED},
  entry as materialized (
    select p.seq, (e.place - 1)::smallint as entry_no, a.number, p.recorded_at,
           case e.entry ->> 'side' when 'debit' then 1 else -1 end
             * (e.entry ->> 'amount')::bigint as amount,
           (p.event ->> 'effective_date')::date as effective_date
      from posted p {_entries("p.event")})
"""

# The local days of the events, each with its first moment. A time zone is dear to look up for each
# entry; where a moment lies among those of the days is not.
_HISTORY = f"""
  {_ENTRY},
  zone as (
    select convert_from(bytes, 'UTF8')::jsonb ->> 'time_zone' as name
      from ledger.journal where ledger = $1 and seq = 1),
  span as (
    select (min(j.recorded_at) at time zone min(z.name))::date as first_day,
           (max(j.recorded_at) at time zone min(z.name))::date as last_day
      from ledger.journal j cross join zone z
     where j.ledger = $1 and j.seq in ($2 + 1, $3)),
  days as materialized (
    select first_day, array(
             select d at time zone z.name
               from generate_series(first_day::timestamp, last_day, interval '1 day') as d
              order by d) as starts
      from span cross join zone z),
  dated as materialized (
    select e.*, d.first_day + width_bucket(e.recorded_at, d.starts) - 1 as recorded_date
      from entry e cross join days d)
"""

_KEYED = """
  keyed as materialized (
    select seq, event from (
      select seq, convert_from(bytes, 'UTF8')::jsonb as event from ledger.journal
       where ledger = $1 and seq > $2 and seq <= $3
         and event_type in ('transaction.posted', 'hold.placed', 'hold.released')) as found
     where event ? 'idempotency_digest')
"""

# `held`: the holds that these events place, capture or release, each with its last change. `leg`: what
# was held on an account and side; `taken`: what each capture took of it; `rest`: what is left of it at
# $3. Captures are found by their links, so these are looked up in full however few events are new.
_HOLDS = f"""
  {_POSTED},
  released as materialized (
    select seq, convert_from(bytes, 'UTF8')::jsonb as event from ledger.journal
     where ledger = $1 and seq > $2 and seq <= $3 and event_type = 'hold.released'),
  change as materialized (
    select seq as hold, seq, 'open' as state from ledger.journal
     where ledger = $1 and seq > $2 and seq <= $3 and event_type = 'hold.placed'
    union all
    select (event ->> 'captures')::bigint, seq,
           case when coalesce((event ->> 'ends_hold')::boolean, false) then 'captured' else 'open' end
      from posted where event ? 'captures'
    union all
    select (event ->> 'hold')::bigint, seq, event ->> 'cause' from released),
  held as materialized (
    select distinct on (c.hold) c.hold, c.seq as version, c.state,
           convert_from(j.bytes, 'UTF8')::jsonb as event
      from change c join ledger.journal j on j.ledger = $1 and j.seq = c.hold
     order by c.hold, c.seq desc),
  leg as materialized (
    select h.hold, min(e.place) as place, a.number, e.entry ->> 'side' as side,
           sum((e.entry ->> 'amount')::bigint) as amount
      from held h {_entries("h.event")}
     group by h.hold, a.number, e.entry ->> 'side'),
  taken as materialized (
    select c.hold, c.seq, a.number, e.entry ->> 'side' as side,
           sum((e.entry ->> 'amount')::bigint) as amount
      from held h join ledger.capture c on c.ledger = $1 and c.hold = h.hold and c.seq <= $3
           join ledger.journal j on j.ledger = $1 and j.seq = c.seq
           {_entries("convert_from(j.bytes, 'UTF8')::jsonb")}
     group by c.hold, c.seq, a.number, e.entry ->> 'side'),
  rest as materialized (
    select l.hold, l.place, l.number, l.side, l.amount - coalesce(sum(t.amount), 0) as amount
      from leg l left join taken t using (hold, number, side)
     group by l.hold, l.place, l.number, l.side, l.amount)
"""

# What each event moves: entries, and what holds make pending, take from it, and give back.
_MOVES = f"""
  {_HOLDS},
  entry as materialized (
    select p.seq, a.number, e.entry ->> 'side' as side, (e.entry ->> 'amount')::bigint as amount
      from posted p {_entries("p.event")}),
  move as materialized (
    select number, seq, side, amount, 0 as pending from entry
    union all
    select number, hold, side, 0, amount from leg where hold > $2
    union all
    select number, seq, side, 0, -amount from taken where seq > $2
    union all
    select r.number, h.version, r.side, 0, -r.amount from rest r join held h using (hold)
     where h.state <> 'open' and r.amount > 0)
"""

_TYPES = """
  found as materialized (
    select seq, event_type, convert_from(bytes, 'UTF8')::jsonb as event from ledger.journal
     where ledger = $1 and seq > $2 and seq <= $3 and event_type in ({}))
"""
_PERIODS = _TYPES.format("'period.soft_closed', 'period.closed', 'period.reopened', 'day.attested'")
_DECLARATIONS = _TYPES.format("'currency.declared', 'rule.declared', 'rule.withdrawn'")

_DECLARED = "select seq, event_type, coalesce(event ->> 'rule', event ->> 'currency') from found"
_ACCRUED = (
    "select p.event #>> '{applied,rule}', a.number, p.seq from posted p "
    "cross join " + account_of("p.event #>> '{applied,account}'") + " "
    "where p.event #>> '{applied,period_start}' is not null"
)

_ACCOUNTS = """
  account_event as materialized (
    select seq, event_type, convert_from(bytes, 'UTF8')::jsonb as event from ledger.journal
     where ledger = $1 and seq > $2 and seq <= $3
       and event_type in ('account.opened', 'account.changed')),
  status as (
    select distinct on (event ->> 'account') event ->> 'account' as account,
           event ->> 'status' as status, seq as status_seq
      from account_event where event_type = 'account.changed' order by 1, seq desc)
"""


class Table(msgspec.Struct, frozen=True):
    """One table of a projection; each has `ledger` as its first column."""

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    """Key and values, sums and then what stands at last behind it, without `ledger`."""
    rows: str
    """A select of `columns` from the projection's sources."""
    sums: tuple[str, ...] = ()
    """Columns that grow: rows of later events are added to those of earlier ones."""
    last: tuple[str, ...] = ()
    """Columns of which the later row's value stands."""
    rewritten: bool = False
    """Whether a later event changes a row: what is due is then derived as a whole."""
    repeats: bool = False
    """Whether later events make a row due that is there: then the first one stays."""

    def insert(self, into: str) -> str:
        """Put what is due into a table that stands at $2."""
        merged = [f"{name} = t.{name} + excluded.{name}" for name in self.sums]
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

    def step(self) -> str:
        """One statement that brings all its tables from $2 to $3."""
        made = [f"t{n} as ({t.insert(f'ledger.{t.name}')})" for n, t in enumerate(self.tables)]
        return f"with {self.sources}, {', '.join(made)} select 1"


_PROJECTIONS = (
    Projection(
        "accounts",
        _ACCOUNTS,
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
        _POSTED,
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
        "accruals", _POSTED,
        (Table("accrual", ("rule", "number", "seq"), ("rule", "number", "seq"), _ACCRUED),),
    ),
    Projection(
        "holds",
        _HOLDS,
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
        _PERIODS,
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
        "declarations", _DECLARATIONS,
        (Table("declaration", ("seq",), ("seq", "event_type", "name"), _DECLARED),),
    ),
    Projection(
        "balances",
        _MOVES,
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
        _KEYED,
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
        _POSTED,
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
        _HISTORY,
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
