-- What was reversed, by which transactions, and how much of it still stands?
with amounts as (
    select
        seq,
        currency,
        sum(amount) as amount
    from entries
    where ledger = $ledger and side = 'debit'
    group by seq, currency
)

select
    originals.seq,
    originals.kind,
    originals.effective_date,
    amounts.currency,
    amounts.amount,
    list(reversals.seq order by reversals.seq) as reversed_by,
    sum(taken_back.amount) as reversed,
    amounts.amount - sum(taken_back.amount) as still_stands
from transactions as originals
inner join transactions as reversals
    on originals.ledger = reversals.ledger and originals.seq = reversals.reverses_seq
inner join amounts on originals.seq = amounts.seq
inner join amounts as taken_back
    on reversals.seq = taken_back.seq and amounts.currency = taken_back.currency
where originals.ledger = $ledger
group by
    originals.seq, originals.kind, originals.effective_date, amounts.currency, amounts.amount
order by originals.seq
