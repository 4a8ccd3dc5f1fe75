with totals as (
    select
        ledger,
        account,
        {{ sum_money('debits') }} as debits,
        {{ sum_money('credits') }} as credits,
        cast(sum(entry_count) as bigint) as entry_count,
        max(balance_date) as last_effective_date,
        max(last_seq) as last_seq
    from {{ ref('account_balances_daily') }}
    group by ledger, account
)

select
    accounts.ledger,
    accounts.account,
    accounts.currency,
    accounts.exponent,
    accounts.account_class,
    accounts.normal_side,
    accounts.custodial,
    accounts.gl_code,
    accounts.owner,
    coalesce(totals.debits, 0) as debits,
    coalesce(totals.credits, 0) as credits,
    cast(
        case
            when accounts.normal_side = 'debit'
                then coalesce(totals.debits, 0) - coalesce(totals.credits, 0)
            else coalesce(totals.credits, 0) - coalesce(totals.debits, 0)
        end as decimal(38, 0)
    ) as balance,
    coalesce(totals.entry_count, 0) as entry_count,
    totals.last_effective_date,
    greatest(accounts.last_seq, coalesce(totals.last_seq, 0)) as last_seq
from {{ ref('accounts') }} as accounts
left join totals
    on accounts.ledger = totals.ledger and accounts.account = totals.account
