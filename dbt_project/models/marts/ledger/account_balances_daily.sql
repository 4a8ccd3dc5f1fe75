{{ config(materialized='incremental', unique_key=['ledger', 'account', 'balance_date']) }}

with arrived as (
    select
        ledger,
        account,
        effective_date as balance_date,
        {{ sum_money("case when side = 'debit' then amount else 0 end") }} as debits,
        {{ sum_money("case when side = 'credit' then amount else 0 end") }} as credits,
        count(*) as entry_count,
        max(seq) as last_seq
    from {{ ref('entries') }}
    where {{ new_since(facts=ref('entries')) }}
    group by ledger, account, effective_date
),

{% if is_incremental() %}
    -- A backdated entry moves the closing balance of its day and of every later one.
    touched as (
        select
            ledger,
            account,
            min(balance_date) as first_date
        from arrived
        group by ledger, account
    ),

    earlier as (
        select
            daily.ledger,
            daily.account,
            daily.balance,
            daily.last_seq,
            row_number() over (
                partition by daily.ledger, daily.account order by daily.balance_date desc
            ) as age
        from {{ this }} as daily
        inner join touched
            on
                daily.ledger = touched.ledger
                and daily.account = touched.account
                and daily.balance_date < touched.first_date
    ),

    movements as (
        select
            ledger,
            account,
            balance_date,
            {{ sum_money('debits') }} as debits,
            {{ sum_money('credits') }} as credits,
            cast(sum(entry_count) as bigint) as entry_count,
            max(last_seq) as last_seq
        from (
            select
                ledger,
                account,
                balance_date,
                debits,
                credits,
                entry_count,
                last_seq
            from arrived
            union all
            select
                daily.ledger,
                daily.account,
                daily.balance_date,
                daily.debits,
                daily.credits,
                daily.entry_count,
                daily.last_seq
            from {{ this }} as daily
            inner join touched
                on
                    daily.ledger = touched.ledger
                    and daily.account = touched.account
                    and daily.balance_date >= touched.first_date
        ) as old_and_new
        group by ledger, account, balance_date
    ),

    opening as (
        select
            ledger,
            account,
            balance,
            last_seq
        from earlier
        where age = 1
    )
{% else %}
    movements as (
        select
            ledger,
            account,
            balance_date,
            debits,
            credits,
            entry_count,
            last_seq
        from arrived
    ),

    opening as (
        select
            ledger,
            account,
            cast(0 as decimal(38, 0)) as balance,
            cast(0 as bigint) as last_seq
        from arrived
        where false
    )
{% endif %}

select
    movements.ledger,
    movements.account,
    accounts.currency,
    accounts.exponent,
    movements.balance_date,
    movements.debits,
    movements.credits,
    cast(
        coalesce(opening.balance, 0)
        + sum({{ on_normal_side('movements.debits', 'movements.credits') }}) over (
            partition by movements.ledger, movements.account
            order by movements.balance_date
            rows between unbounded preceding and current row
        ) as decimal(38, 0)
    ) as balance,
    movements.entry_count,
    greatest(
        coalesce(opening.last_seq, 0),
        max(movements.last_seq) over (
            partition by movements.ledger, movements.account
            order by movements.balance_date
            rows between unbounded preceding and current row
        )
    ) as last_seq
from movements
inner join {{ ref('accounts') }} as accounts
    on movements.ledger = accounts.ledger and movements.account = accounts.account
left join opening
    on movements.ledger = opening.ledger and movements.account = opening.account
