"""The ledger: journal, head, accounts with balances, posting lists, idempotency, tree, checkpoints."""

from alembic import op

revision = "0002"
down_revision = "0001"

PROJECTIONS = (
    "ledger.account, ledger.balance, ledger.posting_list, ledger.idempotency, ledger.reversal, "
    "ledger.tile, ledger.checkpoint, ledger.cosignature, ledger.lease, ledger.head, ledger.journal"
)

TABLES = """
create schema ledger;

-- One row per ledger; whoever commits must find the epoch and seq it expects (fencing).
create table ledger.head (
  ledger text collate "C" primary key,
  seq bigint not null,
  epoch bigint not null,
  root bytea not null,
  recorded_at timestamptz
) with (fillfactor = 50);

-- Who writes a ledger now and where it listens; the row '*' names who opens new ledgers.
create table ledger.lease (
  ledger text collate "C" primary key,
  holder text not null,
  address text not null,
  expires_at timestamptz not null
) with (fillfactor = 50);

-- The truth. bytes are canonical: hashed, stored, published, never encoded again.
create table ledger.journal (
  ledger text collate "C" not null,
  seq bigint not null,
  event_type text not null,
  recorded_at timestamptz not null,
  bytes bytea not null,
  leaf_hash bytea not null,
  primary key (ledger, seq)
) partition by range (seq);

create table ledger.account (
  ledger text collate "C" not null,
  account text collate "C" not null,
  number bigint not null,
  currency text not null,
  account_class text not null,
  normal_side text not null,
  custodial boolean not null,
  gl_code text not null,
  owner text,
  floor numeric(38, 0),
  ceiling numeric(38, 0),
  status text not null,
  status_seq bigint not null,
  primary key (ledger, account),
  unique (ledger, number)
);
comment on column ledger.account.number is 'seq of the event that opened it; names it in other tables';

-- version is the seq of the last transaction that moved it; no index but the key, so updates stay HOT.
create table ledger.balance (
  ledger text collate "C" not null,
  number bigint not null,
  debits numeric(38, 0) not null,
  credits numeric(38, 0) not null,
  version bigint not null,
  primary key (ledger, number)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- One row per account and commit: the entries of the account in that commit, in order.
-- amounts are signed: debits positive, credits negative.
create table ledger.posting_list (
  ledger text collate "C" not null,
  number bigint not null,
  last_seq bigint not null,
  seqs bigint[] not null,
  entry_nos smallint[] not null,
  amounts bigint[] not null,
  effective_dates date[] not null,
  primary key (ledger, number, last_seq)
) partition by range (last_seq);

-- digest is SHA-256 of ledger and key, so it is unique without the ledger; the key itself is not kept.
create index posting_list_last_seq on ledger.posting_list using brin (last_seq);

create table ledger.idempotency (
  digest bytea not null,
  ledger text collate "C" not null,
  seq bigint not null,
  request_hash bytea not null,
  primary key (digest)
) partition by hash (digest);

create table ledger.reversal (
  ledger text collate "C" not null,
  reverses bigint not null,
  seq bigint not null,
  primary key (ledger, reverses, seq)
);

-- Full tiles of the Merkle tree, 256 hashes wide (C2SP tlog-tiles); root is the hash above them.
create table ledger.tile (
  ledger text collate "C" not null,
  level smallint not null,
  tile_index bigint not null,
  hashes bytea not null,
  root bytea not null,
  primary key (ledger, level, tile_index)
);

create table ledger.checkpoint (
  ledger text collate "C" not null,
  size bigint not null,
  root bytea not null,
  note text not null,
  created_at timestamptz not null default now(),
  primary key (ledger, size)
);

create table ledger.cosignature (
  ledger text collate "C" not null,
  size bigint not null,
  witness text not null,
  line text not null,
  created_at timestamptz not null default now(),
  primary key (ledger, size, witness),
  foreign key (ledger, size) references ledger.checkpoint
)
"""

GUARDS = """
create function ledger.refuse_change() returns trigger language plpgsql as $$
begin
  raise exception 'the journal is append-only: % of % refused', tg_op, tg_table_name;
end $$;

create trigger journal_append_only before update or delete on ledger.journal
for each row execute function ledger.refuse_change();

create trigger journal_no_truncate before truncate on ledger.journal
for each statement execute function ledger.refuse_change();

-- Creates the partitions that hold seq up to the given one. Runs as the owner, so that the serving
-- role owns no partition. 2^24 rows each: 256^3, a whole tile of the third level.
create function ledger.extend_partitions(up_to bigint) returns void
language plpgsql security definer set search_path = pg_catalog as $$
declare
  width constant bigint := 16777216;
  number bigint;
begin
  perform pg_advisory_xact_lock(hashtext('ledger.extend_partitions'));
  for number in 0 .. up_to / width loop
    if to_regclass(format('ledger.journal_%s', number)) is null then
      execute format(
        'create table ledger.journal_%s partition of ledger.journal for values from (%s) to (%s)',
        number, number * width, (number + 1) * width);
      execute format(
        'create trigger journal_no_truncate before truncate on ledger.journal_%s '
        'for each statement execute function ledger.refuse_change()', number);
      execute format(
        'create table ledger.posting_list_%s partition of ledger.posting_list '
        'for values from (%s) to (%s)', number, number * width, (number + 1) * width);
    end if;
  end loop;
end $$;

revoke execute on function ledger.extend_partitions(bigint) from public;
select ledger.extend_partitions(33554431)
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(GUARDS)
    for number in range(16):
        op.execute(
            f"create table ledger.idempotency_{number} partition of ledger.idempotency "
            f"for values with (modulus 16, remainder {number})"
        )
    op.execute(
        "grant usage on schema ledger to tallystick_writer, tallystick_api, tallystick_relay, "
        "tallystick_worker"
    )
    op.execute(f"grant select, insert on {PROJECTIONS} to tallystick_writer")
    op.execute(
        "grant update on ledger.head, ledger.lease, ledger.account, ledger.balance to tallystick_writer"
    )
    op.execute("grant execute on function ledger.extend_partitions(bigint) to tallystick_writer")
    op.execute(f"grant select on {PROJECTIONS} to tallystick_api")
    op.execute("grant insert on ledger.cosignature to tallystick_api")
    op.execute("grant select on ledger.journal, ledger.head to tallystick_relay")
