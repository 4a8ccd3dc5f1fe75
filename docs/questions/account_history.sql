-- What happened on an account, entry by entry, and what did it hold after each?
select
    effective_at,
    seq,
    entry_no,
    kind,
    channel,
    side,
    amount,
    currency,
    sum(signed_amount) over (
        order by effective_at, seq, entry_no rows between unbounded preceding and current row
    ) as balance,
    recorded_at
from entries
where ledger = $ledger and account = $account
order by effective_at, seq, entry_no
