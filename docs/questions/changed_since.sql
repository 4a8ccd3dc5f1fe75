-- What was recorded since a report that states its seq, and for which days?
select
    entries.account,
    entries.effective_date,
    entries.currency,
    count(*) as entry_count,
    sum(entries.signed_amount) as moved,
    min(entries.seq) as first_seq,
    max(entries.seq) as last_seq
from entries
where entries.ledger = $ledger and entries.seq > cast($since_seq as bigint)
group by entries.account, entries.effective_date, entries.currency
order by entries.account, entries.effective_date
