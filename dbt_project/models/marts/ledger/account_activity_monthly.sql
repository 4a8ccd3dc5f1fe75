{{ config(materialized='incremental', unique_key=['ledger', 'account', 'month_start']) }}

with days as (
    select
        ledger,
        account,
        {{ month_start('balance_date') }} as month_start,
        balance_date,
        currency,
        exponent,
        debits,
        credits,
        balance,
        entry_count,
        last_seq
    from {{ ref('account_balances_daily') }}
),

-- A backdated entry moves its own month and every later one.
touched as (
    select
        ledger,
        account,
        min(month_start) as first_month
    from days
    where {{ new_since('last_seq') }}
    group by ledger, account
),

placed as (
    select
        days.*,
        accounts.normal_side,
        {{ on_normal_side('days.debits', 'days.credits') }} as movement,
        row_number() over (
            partition by days.ledger, days.account, days.month_start order by days.balance_date
        ) as place,
        row_number() over (
            partition by days.ledger, days.account, days.month_start order by days.balance_date desc
        ) as place_from_end
    from days
    inner join touched
        on
            days.ledger = touched.ledger
            and days.account = touched.account
            and days.month_start >= touched.first_month
    inner join {{ ref('accounts') }} as accounts
        on days.ledger = accounts.ledger and days.account = accounts.account
)

select
    ledger,
    account,
    month_start,
    currency,
    exponent,
    normal_side,
    {{ sum_money('case when place = 1 then balance - movement end') }} as opening_balance,
    {{ sum_money('debits') }} as debits,
    {{ sum_money('credits') }} as credits,
    {{ sum_money('case when place_from_end = 1 then balance end') }} as closing_balance,
    cast(sum(entry_count) as bigint) as entry_count,
    count(*) as active_days,
    max(balance_date) as last_effective_date,
    max(last_seq) as last_seq
from placed
group by ledger, account, month_start, currency, exponent, normal_side
