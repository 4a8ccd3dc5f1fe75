-- Which holds are open, how old are they, and what do they still set aside?
select
    holds.seq,
    holds.kind,
    holds.placed_at,
    date_diff('day', holds.placed_at, cast($moment as timestamp)) as days_open,
    holds.expires_at,
    holds.currency,
    holds.placed,
    holds.captured,
    holds.pending
from holds
where holds.ledger = $ledger and holds.state = 'open'
order by holds.placed_at, holds.seq
