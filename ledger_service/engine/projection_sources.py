"""What projections are derived from: CTEs of the events after $2 up to $3 of the ledger $1, decoded."""

from __future__ import annotations

from ledger_service.engine.event_sql import account_of

POSTED = """
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
  {POSTED},
  entry as materialized (
    select p.seq, (e.place - 1)::smallint as entry_no, a.number, p.recorded_at,
           case e.entry ->> 'side' when 'debit' then 1 else -1 end
             * (e.entry ->> 'amount')::bigint as amount,
           (p.event ->> 'effective_date')::date as effective_date
      from posted p {_entries("p.event")})
"""

# The local days of the events, each with its first moment. A time zone is dear to look up for each
# entry; where a moment lies among those of the days is not.
HISTORY = f"""
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

KEYED = """
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
HOLDS = f"""
  {POSTED},
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
MOVES = f"""
  {HOLDS},
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
PERIODS = _TYPES.format("'period.soft_closed', 'period.closed', 'period.reopened', 'day.attested'")
DECLARATIONS = _TYPES.format("'currency.declared', 'rule.declared', 'rule.withdrawn'")

ACCOUNTS = """
  account_event as materialized (
    select seq, event_type, convert_from(bytes, 'UTF8')::jsonb as event from ledger.journal
     where ledger = $1 and seq > $2 and seq <= $3
       and event_type in ('account.opened', 'account.changed')),
  status as (
    select distinct on (event ->> 'account') event ->> 'account' as account,
           event ->> 'status' as status, seq as status_seq
      from account_event where event_type = 'account.changed' order by 1, seq desc)
"""
