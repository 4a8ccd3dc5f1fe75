"""A commit that looks each balance up by its key, whatever PostgreSQL thinks of the table."""

from alembic import op

revision = "0016"
down_revision = "0015"

# The number is what tells accounts apart: compared first it spares the comparison of ledgers. More
# room on a page makes pruning rarer, of which each costs as much as several updates.
BALANCE = """
alter table ledger.balance drop constraint balance_pkey;
alter table ledger.balance add primary key (number, ledger);
alter table ledger.balance set (fillfactor = 50)
"""

COMMIT = """
-- As before; pending_debits and pending_credits are empty where no hold has moved. Plans are made once
-- and leave no choice: with statistics behind, PostgreSQL read every balance for each commit, and it
-- made the plans of small batches anew each time. Balances are found by one walk along the index, with
-- the numbers in order, and meet their new values in a hash. Several unnest in a select go in step, and
-- nothing is stored in between as it is for those in a from clause.
create or replace function ledger.commit_batch(
  of_ledger text, of_epoch bigint, first_seq bigint, last_seq bigint, new_root bytea,
  moment timestamptz, types text[], event_bytes bytea[], leaf_hashes bytea[],
  digests bytea[], seqs bigint[], request_hashes bytea[],
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
  select of_ledger, generate_series(first_seq + 1, last_seq), unnest(types), moment,
         unnest(event_bytes), unnest(leaf_hashes);
  insert into ledger.idempotency (digest, ledger, seq, request_hash)
  select unnest(digests), of_ledger, unnest(seqs), unnest(request_hashes);
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
end $$
"""


def upgrade() -> None:
    op.execute(BALANCE)
    op.execute(COMMIT)
