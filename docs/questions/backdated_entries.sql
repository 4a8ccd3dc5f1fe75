-- What was recorded after the day for which it counts, and how late?
select
    transactions.seq,
    transactions.kind,
    transactions.effective_date,
    transactions.recorded_date,
    date_diff('day', transactions.effective_date, transactions.recorded_date) as days_late,
    transactions.corrects_seq,
    transactions.value_date,
    transactions.actor
from transactions
where
    transactions.ledger = $ledger
    and transactions.effective_date < transactions.recorded_date
    and transactions.recorded_date between cast($first_day as date) and cast($last_day as date)
order by days_late desc, transactions.seq
