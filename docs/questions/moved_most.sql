-- Who moved most in a span of days?
select
    accounts.owner as party,
    entries.currency,
    sum(entries.amount) as volume,
    count(*) as entry_count
from entries
inner join accounts
    on entries.ledger = accounts.ledger and entries.account = accounts.account
where
    entries.ledger = $ledger
    and accounts.owner is not null
    and entries.effective_date between cast($first_day as date) and cast($last_day as date)
group by accounts.owner, entries.currency
order by volume desc, party
limit 20
