"""A commit that takes each column in one piece, which costs neither end an array of small ones."""

from alembic import op

revision = "0021"
down_revision = "0017"

COMMIT = """
drop function ledger.commit_batch(
  text, bigint, bigint, bigint, bytea, timestamptz, text[], bytea[], bytea[], bytea[], bigint[],
  bytea[], bigint[], bigint[], bigint[], numeric[], numeric[], numeric[], numeric[]);

-- What this commit changes, and why its plans are fixed, stands in 0016. Events come as one text of
-- bytes with the place where each ends; hashes and digests have 32 bytes each. Left out (null): types,
-- where all are postings; seqs, where each event has a key; pending, where no hold has moved.
create function ledger.commit_batch(
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
  insert into ledger.idempotency (digest, ledger, seq, request_hash)
  select substr(digests, 32 * n - 31, 32), of_ledger, coalesce(seq, first_seq + n),
         substr(request_hashes, 32 * n - 31, 32)
    from (select generate_series(1, length(digests) / 32) as n, unnest(seqs) as seq) as key;
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
revoke execute on function ledger.commit_batch from public;
grant execute on function ledger.commit_batch to tallystick_writer
"""

FIND = """
drop function ledger.find_keys(bytea[]);

-- As before (0017), of digests in one piece.
create function ledger.find_keys(wanted bytea)
returns table (digest bytea, seq bigint, request_hash bytea) language sql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
  select found.*
    from generate_series(0, length(wanted) / 32 - 1) as w (n)
         cross join lateral (
           select i.digest, i.seq, i.request_hash from ledger.idempotency i
            where substr(i.digest, 18) = substr(wanted, 32 * w.n + 18, 15)
              and i.digest = substr(wanted, 32 * w.n + 1, 32)
           offset 0) as found
$$;
revoke execute on function ledger.find_keys from public;
grant execute on function ledger.find_keys to tallystick_writer
"""


def upgrade() -> None:
    op.execute(COMMIT)
    op.execute(FIND)
