-- Do the books balance at the end of a day, line by line?
select
    gl_code,
    account_class,
    custodial,
    currency,
    closing_debits,
    closing_credits
from trial_balance_daily
where ledger = $ledger and balance_date <= cast($day as date)
qualify
    row_number() over (
        partition by gl_code, account_class, custodial, currency order by balance_date desc
    ) = 1
order by gl_code, account_class, custodial, currency
