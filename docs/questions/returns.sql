-- What did the outside world impose on us, by kind and day: returns, chargebacks, bank fees?
select
    transactions.kind,
    transactions.effective_date,
    entries.currency,
    count(distinct entries.seq) as transaction_count,
    sum(entries.amount) as amount
from transactions
inner join entries
    on transactions.ledger = entries.ledger and transactions.seq = entries.seq
where transactions.ledger = $ledger and transactions.imposed and entries.side = 'debit'
group by transactions.kind, transactions.effective_date, entries.currency
order by transactions.effective_date, transactions.kind
