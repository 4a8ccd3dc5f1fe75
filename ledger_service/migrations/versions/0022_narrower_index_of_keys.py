"""An index of keys of eight bytes each: six of the digest, and a place for those that meet in these."""

from alembic import op

revision = "0022"
down_revision = "0020"

# Six bytes with their length, and a place, fill eight. By chance two keys meet in six bytes once among
# some twenty million, so those that meet get places: 0, 1, ... A place is taken only where all before it
# are, so whoever stores a key a second time, at place 0, meets the index.
TABLE = """
alter table ledger.idempotency add column place "char" not null default 0::"char";
alter table ledger.idempotency alter column place drop default;
update ledger.idempotency i set place = met.place::"char"
  from (select ctid as at, (row_number() over (
                 partition by substr(digest, 27) order by ledger, seq) - 1)::integer as place
          from ledger.idempotency) as met
 where i.ctid = met.at and met.place > 0;
create unique index key_by_place on ledger.idempotency (substr(digest, 27), place);
drop index ledger.one_event_per_key;
alter index ledger.key_by_place rename to one_event_per_key
"""

PLACE = """
-- The place of a key that comes without one. Sees what the same statement has inserted before it.
create function ledger.place_key() returns trigger language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off
as $$
declare
  taken "char"[];
  stands boolean;
begin
  select array_agg(i.place), bool_or(i.digest = new.digest) into taken, stands
    from ledger.idempotency i where substr(i.digest, 27) = substr(new.digest, 27);
  if stands then
    raise unique_violation using message = 'a key is recorded already';
  end if;
  select min(n)::"char" into new.place
    from generate_series(0, 127) as n where taken is null or n::"char" <> all (taken);
  return new;
end $$;
create trigger place_key before insert on ledger.idempotency
for each row when (new.place is null) execute function ledger.place_key()
"""

KEYS = """substr(digests, 32 * n - 31, 32), of_ledger, coalesce(seq, first_seq + n),
           substr(request_hashes, 32 * n - 31, 32)
      from (select generate_series(1, length(digests) / 32) as n, unnest(seqs) as seq) as key"""

COMMIT = f"""
-- As before (0021). Keys go to place 0, and where one can't, all of them to where they can.
create or replace function ledger.commit_batch(
  of_ledger text, of_epoch bigint, first_seq bigint, last_seq bigint, new_root bytea,
  moment timestamptz, types text[], events bytea, ends integer[], leaf_hashes bytea,
  digests bytea, seqs bigint[], request_hashes bytea,
  numbers bigint[], expected bigint[], versions bigint[], new_debits numeric[],
  new_credits numeric[], new_pending_debits numeric[], new_pending_credits numeric[])
returns boolean language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off
set enable_nestloop = off set enable_mergejoin = off
as $$
declare
  moved bigint;
begin
  update ledger.head set seq = last_seq, root = new_root, recorded_at = moment
   where ledger = of_ledger and epoch = of_epoch and seq = first_seq;
  if not found then
    return false;
  end if;
  insert into ledger.journal (ledger, seq, event_type, recorded_at, bytes, leaf_hash)
  select of_ledger, first_seq + n, coalesce(type, 'transaction.posted'), moment,
         substr(events, begin + 1, "end" - begin), substr(leaf_hashes, 32 * n - 31, 32)
    from (select generate_series(1, (last_seq - first_seq)::integer) as n, unnest(types) as type,
                 unnest(0 || ends) as begin, unnest(ends) as "end") as event
   where n is not null;
  begin
    insert into ledger.idempotency (place, digest, ledger, seq, request_hash)
    select 0::"char", {KEYS};
  exception when unique_violation then
    insert into ledger.idempotency (digest, ledger, seq, request_hash)
    select {KEYS};
  end;
  update ledger.balance b
     set debits = n.debits, credits = n.credits,
         pending_debits = coalesce(n.pending_debits, b.pending_debits),
         pending_credits = coalesce(n.pending_credits, b.pending_credits), version = n.version
    from (select unnest(numbers) as number, unnest(expected) as expected,
                 unnest(versions) as version, unnest(new_debits) as debits,
                 unnest(new_credits) as credits, unnest(new_pending_debits) as pending_debits,
                 unnest(new_pending_credits) as pending_credits) as n
   where b.ledger = of_ledger and b.number = any (numbers)
     and b.number = n.number and b.version = n.expected;
  get diagnostics moved = row_count;
  if moved <> cardinality(numbers) then
    raise exception '% of % balances of % are as the writer left them',
      moved, cardinality(numbers), of_ledger;
  end if;
  return true;
end $$;
"""

FIND = """
-- As before (0021), by the new index.
create or replace function ledger.find_keys(wanted bytea)
returns table (digest bytea, seq bigint, request_hash bytea) language sql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
  select found.*
    from generate_series(0, length(wanted) / 32 - 1) as w (n)
         cross join lateral (
           select i.digest, i.seq, i.request_hash from ledger.idempotency i
            where substr(i.digest, 27) = substr(wanted, 32 * w.n + 27, 6)
              and i.digest = substr(wanted, 32 * w.n + 1, 32)
           offset 0) as found
$$;
"""


def upgrade() -> None:
    for step in (TABLE, PLACE, COMMIT, FIND):
        op.execute(step)
