-- A stated balance beside the ledger's at the end of that day, on the account's normal side. Each
-- entry that the load rounded may have moved the ledger's balance by half a minor unit.
with stated as (
    select
        statements.statement_account,
        statements.statement,
        statements.ledger,
        statements.account,
        statements.bank,
        statements.rounded_half_minor_per_entry,
        statements.statement_date,
        statements.closing_balance
    from {{ ref('int_statements') }} as statements
    where statements.purpose = 'stated_balance'
),

-- Movements and statements of an account in one line of time; a day's movements stand before its
-- statement.
timeline as (
    select
        daily.ledger,
        daily.account,
        daily.balance_date as day,
        0 as is_statement,
        {{ on_normal_side('daily.debits', 'daily.credits') }} as movement,
        daily.entry_count,
        daily.last_seq
    from {{ ref('account_balances_daily') }} as daily
    inner join {{ ref('accounts') }} as accounts
        on daily.ledger = accounts.ledger and daily.account = accounts.account
    inner join (
        select distinct
            ledger,
            account
        from stated
    ) as watched
        on daily.ledger = watched.ledger and daily.account = watched.account
    union all
    select distinct
        ledger,
        account,
        statement_date as day,
        1 as is_statement,
        cast(0 as decimal(38, 0)) as movement,
        0 as entry_count,
        0 as last_seq
    from stated
),

{% set so_far %}
    partition by ledger, account order by day, is_statement
    rows between unbounded preceding and current row
{% endset %}
ledger_side as (
    select
        ledger,
        account,
        day,
        is_statement,
        {{ running_money('movement', so_far) }} as ledger_balance,
        cast(sum(entry_count) over ({{ so_far }}) as bigint) as entries_so_far,
        max(last_seq) over ({{ so_far }}) as last_seq
    from timeline
)

select
    stated.statement_account,
    stated.statement,
    stated.ledger,
    stated.account,
    stated.bank,
    stated.statement_date,
    accounts.currency,
    accounts.exponent,
    cast(stated.closing_balance as decimal(38, 0)) as bank_amount,
    ledger_side.ledger_balance as ledger_amount,
    cast(stated.closing_balance - ledger_side.ledger_balance as decimal(38, 0)) as difference,
    ledger_side.entries_so_far,
    2 * abs(stated.closing_balance - ledger_side.ledger_balance)
    <= stated.rounded_half_minor_per_entry * ledger_side.entries_so_far as agrees,
    row_number() over (
        partition by stated.statement_account order by stated.statement_date desc
    ) as age,
    ledger_side.last_seq
from stated
inner join ledger_side
    on
        stated.ledger = ledger_side.ledger
        and stated.account = ledger_side.account
        and stated.statement_date = ledger_side.day
        and ledger_side.is_statement = 1
inner join {{ ref('accounts') }} as accounts
    on stated.ledger = accounts.ledger and stated.account = accounts.account
