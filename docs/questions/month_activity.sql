-- What did each account do in a month, from opening to closing balance?
select
    account,
    currency,
    opening_balance,
    debits,
    credits,
    closing_balance,
    entry_count,
    active_days
from account_activity_monthly
where ledger = $ledger and month_start = cast($month as date)
order by account
