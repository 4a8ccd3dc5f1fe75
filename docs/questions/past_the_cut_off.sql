-- What came past a day's cut-off, or on no banking day, and belongs to a later banking day?
select
    transactions.effective_date,
    transactions.business_date,
    transactions.channel,
    count(distinct transactions.seq) as transaction_count,
    entries.currency,
    sum(entries.amount) as amount
from transactions
inner join entries
    on transactions.ledger = entries.ledger and transactions.seq = entries.seq
where
    transactions.ledger = $ledger
    and transactions.business_date > transactions.effective_date
    and entries.side = 'debit'
group by
    transactions.effective_date,
    transactions.business_date,
    transactions.channel,
    entries.currency
order by transactions.effective_date, transactions.business_date, transactions.channel
