"""Bitmaps of transactions by kind and channel, and an index by effective time for few of them."""

from alembic import op

revision = "0020"
down_revision = "0021"

TABLES = """
-- The transactions of a block of 512 events that have a value: place n is that of the event 512 * block
-- + n. A field is kind, channel, or effective_at, whose one value is recorded_at: those that count for
-- the moment at which they were recorded.
create table ledger.transaction_bitmap (
  ledger text collate "C" not null,
  field text collate "C" not null,
  value text collate "C" not null,
  block bigint not null,
  bits bit(512) not null,
  primary key (ledger, field, value, block)
) with (fillfactor = 80);

-- Transactions that count for another moment than that at which they were recorded.
create table ledger.value_dated_transaction (
  ledger text collate "C" not null,
  effective_at timestamptz not null,
  seq bigint not null,
  primary key (ledger, effective_at, seq)
)
"""

FILL = """
insert into ledger.value_dated_transaction
select t.ledger, t.effective_at, t.seq
  from ledger.transaction t join ledger.journal j using (ledger, seq)
 where t.effective_at <> j.recorded_at;
insert into ledger.transaction_bitmap
select t.ledger, f.field, f.value, t.seq / 512,
       bit_or(set_bit('0'::bit(512), (t.seq % 512)::int, 1))
  from ledger.transaction t join ledger.journal j using (ledger, seq)
       cross join lateral (values
         ('kind', t.kind), ('channel', t.channel),
         ('effective_at', case when t.effective_at = j.recorded_at then 'recorded_at' end))
       as f (field, value)
 where f.value is not null
 group by 1, 2, 3, 4
"""

GRANTS = """
grant select, insert on ledger.transaction_bitmap, ledger.value_dated_transaction to tallystick_writer;
grant update on ledger.transaction_bitmap to tallystick_writer;
grant select on ledger.transaction_bitmap, ledger.value_dated_transaction to tallystick_api;
grant select, insert, delete on ledger.transaction_bitmap, ledger.value_dated_transaction
 to tallystick_rebuilder
"""

# As for balances (0016): the number tells more apart than the ledger.
KEYS = """
drop index ledger.transaction_by_effective_at, ledger.transaction_by_kind, ledger.transaction_by_channel;
alter table ledger.posting_list drop constraint posting_list_pkey;
alter table ledger.posting_list add primary key (number, ledger, last_seq);
alter table ledger.day_delta drop constraint day_delta_pkey;
alter table ledger.day_delta add primary key (number, ledger, effective_date, recorded_date);
alter table ledger.value_dated_entry drop constraint value_dated_entry_pkey;
alter table ledger.value_dated_entry
  add primary key (number, ledger, effective_date, seq, entry_no)
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(FILL)
    op.execute(GRANTS)
    op.execute(KEYS)
