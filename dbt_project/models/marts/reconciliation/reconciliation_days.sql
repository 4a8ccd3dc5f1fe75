with statements as (
    select
        statement_account,
        ledger,
        account,
        bank,
        purpose,
        statement_date,
        currency,
        closing_balance
    from {{ ref('int_statements') }}
    where purpose in ('fbo', 'operating')
),

-- What stands between bank and ledger: a break from the day one side has it; a matched pair while
-- only one side has it.
gaps as (
    select
        statement_account,
        effective_date as day,
        -ledger_amount as amount,
        0 as break_count
    from {{ ref('int_reconciliation_items') }}
    where seq is not null and outcome not in ('before_statements', 'awaiting_statement')
    union all
    select
        statement_account,
        statement_date as day,
        bank_amount as amount,
        0 as break_count
    from {{ ref('int_reconciliation_items') }}
    where statement is not null
    union all
    select
        statement_account,
        coalesce(statement_date, effective_date) as day,
        0 as amount,
        1 as break_count
    from {{ ref('int_reconciliation_items') }}
    where reconciliation_status = 'break'
),

-- The ledger's balances that a statement is compared with, by role.
movements as (
    select
        statements.statement_account,
        daily.balance_date as day,
        case
            when accounts.account = statements.account then 'bank'
            when accounts.account like 'clearing:%' then 'in_transit'
            else 'customers'
        end as part,
        case when accounts.account_class = 'asset' then 1 else -1 end
        * (daily.debits - daily.credits) as amount,
        daily.last_seq
    from (
        select distinct
            statement_account,
            ledger,
            account,
            purpose,
            currency
        from statements
    ) as statements
    inner join {{ ref('accounts') }} as accounts
        on
            statements.ledger = accounts.ledger
            and statements.currency = accounts.currency
            and (
                statements.account = accounts.account
                or (
                    statements.purpose = 'fbo'
                    and accounts.custodial
                    and accounts.account_class = 'liability'
                )
            )
    inner join {{ ref('account_balances_daily') }} as daily
        on accounts.ledger = daily.ledger and accounts.account = daily.account
),

timeline as (
    select
        statement_account,
        day,
        0 as is_statement,
        {{ sum_money("case when part = 'bank' then amount else 0 end") }} as ledger_movement,
        {{ sum_money("case when part = 'customers' then amount else 0 end") }} as customers,
        {{ sum_money("case when part = 'in_transit' then amount else 0 end") }} as in_transit,
        cast(0 as decimal(38, 0)) as explained,
        0 as break_count,
        max(last_seq) as last_seq
    from movements
    group by statement_account, day
    union all
    select
        statement_account,
        day,
        0 as is_statement,
        0 as ledger_movement,
        0 as customers,
        0 as in_transit,
        {{ sum_money('amount') }} as explained,
        sum(break_count) as break_count,
        0 as last_seq
    from gaps
    group by statement_account, day
    union all
    select
        statement_account,
        statement_date as day,
        1 as is_statement,
        0 as ledger_movement,
        0 as customers,
        0 as in_transit,
        0 as explained,
        0 as break_count,
        0 as last_seq
    from statements
),

{% set so_far %}
    partition by statement_account order by day, is_statement
    rows between unbounded preceding and current row
{% endset %}
closings as (
    select
        statement_account,
        day,
        is_statement,
        {{ running_money('ledger_movement', so_far) }} as ledger_closing,
        {{ running_money('customers', so_far) }} as customers,
        {{ running_money('in_transit', so_far) }} as in_transit,
        {{ running_money('explained', so_far) }} as explained_difference,
        cast(sum(break_count) over ({{ so_far }}) as bigint) as open_breaks,
        max(last_seq) over ({{ so_far }}) as last_seq
    from timeline
),

days as (
    select
        statements.ledger,
        statements.account,
        statements.bank,
        statements.statement_account,
        statements.statement_date,
        statements.currency,
        cast(statements.closing_balance as decimal(38, 0)) as bank_closing,
        closings.ledger_closing,
        case when statements.purpose = 'fbo' then closings.customers end as customers,
        case when statements.purpose = 'fbo' then closings.in_transit end as in_transit,
        cast(statements.closing_balance - closings.ledger_closing as decimal(38, 0))
            as difference_bank_ledger,
        case
            when statements.purpose = 'fbo'
                then cast(
                    closings.ledger_closing - closings.customers - closings.in_transit
                    as decimal(38, 0)
                )
        end as difference_ledger_customers,
        closings.open_breaks,
        closings.explained_difference,
        closings.last_seq
    from statements
    inner join closings
        on
            statements.statement_account = closings.statement_account
            and statements.statement_date = closings.day
            and closings.is_statement = 1
)

select
    days.ledger,
    days.account,
    days.bank,
    days.statement_account,
    days.statement_date,
    days.currency,
    currencies.exponent,
    days.bank_closing,
    days.ledger_closing,
    days.customers,
    days.in_transit,
    days.difference_bank_ledger,
    days.difference_ledger_customers,
    days.open_breaks,
    days.explained_difference,
    case
        when days.difference_bank_ledger <> days.explained_difference then 'unexplained'
        when days.difference_bank_ledger = 0 and days.open_breaks = 0 then 'reconciled'
        else 'explained'
    end as status,
    coalesce(days.last_seq, 0) as last_seq
from days
left join {{ ref('int_currencies') }} as currencies
    on days.ledger = currencies.ledger and days.currency = currencies.currency
