-- What did each account hold at the end of a day, as it was known at a moment?
select
    entries.account,
    entries.currency,
    sum(case when entries.side = 'debit' then entries.amount else 0 end) as debits,
    sum(case when entries.side = 'credit' then entries.amount else 0 end) as credits,
    sum(entries.signed_amount) as balance
from entries
where
    entries.ledger = $ledger
    and entries.effective_date <= cast($day as date)
    and entries.recorded_at <= cast($known_at as timestamp)
group by entries.account, entries.currency
order by entries.account
