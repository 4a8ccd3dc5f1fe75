"""Keys in one table, found by the last bytes of their digests."""

from alembic import op

revision = "0017"
down_revision = "0018"

# 15 of a digest's 32 bytes and their length fill 16; the last ones are as good as any. Two keys of one
# ledger that agree in 120 bits are not met by chance; who makes them on purpose, by 2^60 hashes, is
# refused one of his own.
TABLE = """
alter table ledger.idempotency rename to idempotency_by_hash;
create table ledger.idempotency (
  digest bytea not null,
  ledger text collate "C" not null,
  seq bigint not null,
  request_hash bytea not null
);
insert into ledger.idempotency (digest, ledger, seq, request_hash)
select digest, ledger, seq, request_hash from ledger.idempotency_by_hash order by ledger, seq;
drop table ledger.idempotency_by_hash;
create unique index one_event_per_key on ledger.idempotency (substr(digest, 18));
grant select, insert on ledger.idempotency to tallystick_writer;
grant select on ledger.idempotency to tallystick_api
"""

FIND = """
-- What was recorded under keys. Each is looked up by itself (offset 0), however small the table was
-- when that was planned.
create function ledger.find_keys(wanted bytea[])
returns table (digest bytea, seq bigint, request_hash bytea) language sql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
  select found.*
    from unnest(wanted) as w (digest)
         cross join lateral (
           select i.digest, i.seq, i.request_hash from ledger.idempotency i
            where substr(i.digest, 18) = substr(w.digest, 18) and i.digest = w.digest
           offset 0) as found
$$;
revoke execute on function ledger.find_keys from public;
grant execute on function ledger.find_keys to tallystick_writer
"""


def upgrade() -> None:
    op.execute(TABLE)
    op.execute(FIND)
