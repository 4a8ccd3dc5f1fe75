"""Projections that follow the journal: day sums on both clocks, and the index of transactions."""

from alembic import op

revision = "0010"
down_revision = "0009"

TABLES = """
-- Up to which event each projection has followed; moves in the commit that moves its rows.
create table ledger.projection (
  ledger text collate "C" not null,
  name text collate "C" not null,
  seq bigint not null,
  primary key (ledger, name)
) with (fillfactor = 50);

-- First event recorded on each local day of the ledger.
create table ledger.recorded_day (
  ledger text collate "C" not null,
  recorded_date date not null,
  first_seq bigint not null,
  primary key (ledger, recorded_date)
);

-- Debits and credits of an account by the day they were recorded and the day they count for.
create table ledger.day_delta (
  ledger text collate "C" not null,
  number bigint not null,
  effective_date date not null,
  recorded_date date not null,
  debits numeric(38, 0) not null,
  credits numeric(38, 0) not null,
  primary key (ledger, number, effective_date, recorded_date)
) with (fillfactor = 80);

-- Entries that count for another day than the one on which they were recorded.
create table ledger.value_dated_entry (
  ledger text collate "C" not null,
  number bigint not null,
  effective_date date not null,
  seq bigint not null,
  entry_no smallint not null,
  amount bigint not null,
  primary key (ledger, number, effective_date, seq, entry_no)
);
comment on column ledger.value_dated_entry.amount is 'signed: debits positive, credits negative';

-- What transactions are looked for by. One index for each declared filter, in the order of pages.
create table ledger.transaction (
  ledger text collate "C" not null,
  seq bigint not null,
  effective_at timestamptz not null,
  kind text collate "C" not null,
  channel text collate "C" not null,
  counterparty text collate "C",
  rail_reference text collate "C",
  primary key (ledger, seq)
);
create index transaction_by_effective_at on ledger.transaction (ledger, effective_at, seq);
create index transaction_by_kind on ledger.transaction (ledger, kind, seq);
create index transaction_by_channel on ledger.transaction (ledger, channel, seq);
create index transaction_by_counterparty on ledger.transaction (ledger, counterparty, seq)
 where counterparty is not null;
create index transaction_by_rail_reference on ledger.transaction (ledger, rail_reference, seq)
 where rail_reference is not null;

create table ledger.transaction_metadata (
  ledger text collate "C" not null,
  key text collate "C" not null,
  value text collate "C" not null,
  seq bigint not null,
  primary key (ledger, key, value, seq)
);

-- seq of the last event recorded at or before a moment; 0 before the first. recorded_at never goes
-- back, so halving finds it by the journal's own key.
create function ledger.seq_known_at(of_ledger text, moment timestamptz) returns bigint
language plpgsql stable as $$
declare
  low bigint := 0;
  high bigint;
  middle bigint;
begin
  select seq into high from ledger.head where ledger = of_ledger;
  while low < high loop
    middle := (low + high + 1) / 2;
    if (select recorded_at <= moment from ledger.journal where ledger = of_ledger and seq = middle)
    then low := middle;
    else high := middle - 1;
    end if;
  end loop;
  return low;
end $$
"""

_FOLLOWING = (
    "ledger.recorded_day, ledger.day_delta, ledger.value_dated_entry, ledger.transaction, "
    "ledger.transaction_metadata"
)


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(f"grant select, insert on {_FOLLOWING}, ledger.projection to tallystick_writer")
    op.execute("grant update on ledger.day_delta, ledger.projection to tallystick_writer")
    op.execute(f"grant select on {_FOLLOWING}, ledger.projection to tallystick_api")
