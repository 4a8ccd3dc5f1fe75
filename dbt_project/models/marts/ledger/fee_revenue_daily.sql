{{ config(
    materialized='incremental',
    unique_key=['ledger', 'revenue_date', 'currency', 'kind', 'rule'],
) }}

-- The chart keeps fees on accounts of class income; all that counts there is a fee, but interest. A
-- reversal counts on its own day, under kind and rule of what it takes back.
with moved as (
    -- Where no such account has moved no entry is read.
    select
        ledger,
        account
    from {{ ref('account_balances_current') }}
    where account_class = 'income' and entry_count > 0 and {{ new_since('last_seq') }}
),

arrived as (
    select
        entries.ledger,
        entries.seq,
        coalesce(entries.reverses_seq, entries.seq) as charge_seq,
        entries.effective_date,
        entries.currency,
        entries.exponent,
        entries.side,
        entries.amount
    from {{ ref('entries') }} as entries
    inner join moved on entries.ledger = moved.ledger and entries.account = moved.account
    where {{ new_since(seq='entries.seq', ledger='entries.ledger') }}
),

movements as (
    select
        arrived.ledger,
        arrived.effective_date as revenue_date,
        arrived.currency,
        arrived.exponent,
        charges.kind,
        coalesce(charges.applied_rule, '') as rule,
        {{ sum_money("case when arrived.side = 'credit' then arrived.amount else 0 end") }}
            as charged,
        {{ sum_money("case when arrived.side = 'debit' then arrived.amount else 0 end") }}
            as taken_back,
        count(distinct arrived.seq) as transaction_count,
        max(arrived.seq) as last_seq
    from arrived
    inner join {{ ref('transactions') }} as charges
        on arrived.ledger = charges.ledger and arrived.charge_seq = charges.seq
    where charges.kind <> 'interest'
    group by
        arrived.ledger,
        arrived.effective_date,
        arrived.currency,
        arrived.exponent,
        charges.kind,
        coalesce(charges.applied_rule, '')
),

old_and_new as (
    select *
    from movements
    {% if is_incremental() %}
        union all
        select
            older.ledger,
            older.revenue_date,
            older.currency,
            older.exponent,
            older.kind,
            older.rule,
            older.charged,
            older.taken_back,
            older.transaction_count,
            older.last_seq
        from {{ this }} as older
        inner join movements
            on
                older.ledger = movements.ledger
                and older.revenue_date = movements.revenue_date
                and older.currency = movements.currency
                and older.kind = movements.kind
                and older.rule = movements.rule
    {% endif %}
)

select
    ledger,
    revenue_date,
    currency,
    exponent,
    kind,
    rule,
    {{ sum_money('charged') }} as charged,
    {{ sum_money('taken_back') }} as taken_back,
    cast(sum(charged) - sum(taken_back) as decimal(38, 0)) as revenue,
    cast(sum(transaction_count) as bigint) as transaction_count,
    max(last_seq) as last_seq
from old_and_new
group by ledger, revenue_date, currency, exponent, kind, rule
