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
),

pending as (
    select
        ledger,
        account,
        {{ sum_money("case when side = 'debit' then pending else 0 end") }} as debits,
        {{ sum_money("case when side = 'credit' then pending else 0 end") }} as credits,
        max(last_seq) as last_seq
    from {{ ref('hold_legs') }}
    group by ledger, account
),

balances as (
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
        accounts.floor,
        coalesce(totals.debits, 0) as debits,
        coalesce(totals.credits, 0) as credits,
        cast(
            {{ on_normal_side('coalesce(totals.debits, 0)', 'coalesce(totals.credits, 0)') }}
            as decimal(38, 0)
        ) as balance,
        coalesce(pending.debits, 0) as pending_debits,
        coalesce(pending.credits, 0) as pending_credits,
        -- What is pending on the side that lowers the balance.
        coalesce(
            case when accounts.normal_side = 'debit' then pending.credits else pending.debits end, 0
        ) as pending_against,
        coalesce(totals.entry_count, 0) as entry_count,
        totals.last_effective_date,
        greatest(accounts.last_seq, coalesce(totals.last_seq, 0), coalesce(pending.last_seq, 0))
            as last_seq
    from {{ ref('accounts') }} as accounts
    left join totals
        on accounts.ledger = totals.ledger and accounts.account = totals.account
    left join pending
        on accounts.ledger = pending.ledger and accounts.account = pending.account
)

select
    ledger,
    account,
    currency,
    exponent,
    account_class,
    normal_side,
    custodial,
    gl_code,
    owner,
    debits,
    credits,
    balance,
    pending_debits,
    pending_credits,
    cast(
        case
            when floor is null then balance - pending_against
            else greatest(balance - pending_against - floor, 0)
        end as decimal(38, 0)
    ) as available,
    entry_count,
    last_effective_date,
    last_seq
from balances
