"""A commit is one statement, and what follows the journal is verified as it grows."""

from alembic import op

revision = "0013"
down_revision = "0012"

COMMIT = """
-- Writes a batch: journal, keys, balances, head. One statement is one transaction and one round trip.
-- False, with nothing written, where the head is not as the caller left it: another one has the
-- ledger. An array has an element for each event, each key, or each balance moved. A balance that is
-- not at the version that the caller expects is an error: then nothing is written either.
create function ledger.commit_batch(
  of_ledger text, of_epoch bigint, first_seq bigint, last_seq bigint, new_root bytea,
  moment timestamptz, types text[], event_bytes bytea[], leaf_hashes bytea[],
  digests bytea[], seqs bigint[], request_hashes bytea[],
  numbers bigint[], expected bigint[], versions bigint[], new_debits numeric[],
  new_credits numeric[], new_pending_debits numeric[], new_pending_credits numeric[])
returns boolean language plpgsql as $$
declare
  moved bigint;
begin
  update ledger.head set seq = last_seq, root = new_root, recorded_at = moment
   where ledger = of_ledger and epoch = of_epoch and seq = first_seq;
  if not found then
    return false;
  end if;
  insert into ledger.journal (ledger, seq, event_type, recorded_at, bytes, leaf_hash)
  select of_ledger, first_seq + n.place, n.event_type, moment, n.bytes, n.leaf_hash
    from unnest(types, event_bytes, leaf_hashes)
           with ordinality as n (event_type, bytes, leaf_hash, place);
  insert into ledger.idempotency (digest, ledger, seq, request_hash)
  select n.digest, of_ledger, n.seq, n.request_hash
    from unnest(digests, seqs, request_hashes) as n (digest, seq, request_hash);
  update ledger.balance b
     set debits = n.debits, credits = n.credits, pending_debits = n.pending_debits,
         pending_credits = n.pending_credits, version = n.version
    from unnest(numbers, expected, versions, new_debits, new_credits, new_pending_debits,
                new_pending_credits)
           as n (number, expected, version, debits, credits, pending_debits, pending_credits)
   where b.ledger = of_ledger and b.number = n.number and b.version = n.expected;
  get diagnostics moved = row_count;
  if moved <> cardinality(numbers) then
    raise exception '% of % balances of % are as the writer left them',
      moved, cardinality(numbers), of_ledger;
  end if;
  return true;
end $$;
revoke execute on function ledger.commit_batch from public;
grant execute on function ledger.commit_batch to tallystick_writer;
"""

POSITION = """
-- Posting lists follow the journal as the day sums do: they stand where the history stands. What the
-- writer had put into them past that place is derived once more.
with place as (
  select h.ledger, coalesce(p.seq, 0) as seq
    from ledger.head h left join ledger.projection p on p.ledger = h.ledger and p.name = 'history'),
ahead as (
  delete from ledger.posting_list l using place
   where l.ledger = place.ledger and l.last_seq > place.seq
  returning l.*, place.seq as at)
insert into ledger.posting_list
  (ledger, number, last_seq, seqs, entry_nos, amounts, effective_dates)
select a.ledger, a.number, max(u.seq), array_agg(u.seq order by u.seq, u.entry_no),
       array_agg(u.entry_no order by u.seq, u.entry_no),
       array_agg(u.amount order by u.seq, u.entry_no),
       array_agg(u.effective_date order by u.seq, u.entry_no)
  from ahead a cross join unnest(a.seqs, a.entry_nos, a.amounts, a.effective_dates)
         as u (seq, entry_no, amount, effective_date)
 where u.seq <= a.at
 group by a.ledger, a.number, a.last_seq;

alter table ledger.verified add history_seq bigint not null default 0;
update ledger.verified v set history_seq = least(v.seq, p.seq)
  from ledger.projection p where p.ledger = v.ledger and p.name = 'history';
"""


def upgrade() -> None:
    op.execute(COMMIT)
    op.execute(POSITION)
