{{ config(
    materialized='incremental',
    unique_key=['ledger', 'party', 'position_date', 'account_class', 'custodial', 'currency'],
) }}

with touched as (
    select
        accounts.ledger,
        accounts.owner as party,
        accounts.account_class,
        accounts.custodial,
        accounts.currency,
        min(daily.balance_date) as first_date
    from {{ ref('account_balances_daily') }} as daily
    inner join {{ ref('accounts') }} as accounts
        on daily.ledger = accounts.ledger and daily.account = accounts.account
    where
        accounts.owner is not null
        and {{ new_since(seq='daily.last_seq', ledger='daily.ledger') }}
    group by
        accounts.ledger,
        accounts.owner,
        accounts.account_class,
        accounts.custodial,
        accounts.currency
),

-- A backdated entry moves the position of its day and of every later one.
movements as (
    select
        touched.ledger,
        touched.party,
        touched.account_class,
        touched.custodial,
        touched.currency,
        daily.exponent,
        daily.balance_date as position_date,
        {{ sum_money('daily.debits') }} as debits,
        {{ sum_money('daily.credits') }} as credits,
        {{ sum_money(on_normal_side('daily.debits', 'daily.credits')) }} as movement,
        max(daily.last_seq) as last_seq
    from {{ ref('account_balances_daily') }} as daily
    inner join {{ ref('accounts') }} as accounts
        on daily.ledger = accounts.ledger and daily.account = accounts.account
    inner join touched
        on
            accounts.ledger = touched.ledger
            and accounts.owner = touched.party
            and accounts.account_class = touched.account_class
            and accounts.custodial = touched.custodial
            and accounts.currency = touched.currency
            and daily.balance_date >= touched.first_date
    group by
        touched.ledger,
        touched.party,
        touched.account_class,
        touched.custodial,
        touched.currency,
        daily.exponent,
        daily.balance_date
),

opening as (
    {% if is_incremental() %}
        select
            ledger,
            party,
            account_class,
            custodial,
            currency,
            balance,
            last_seq
        from (
            select
                positions.*,
                row_number() over (
                    partition by
                        positions.ledger,
                        positions.party,
                        positions.account_class,
                        positions.custodial,
                        positions.currency
                    order by positions.position_date desc
                ) as age
            from {{ this }} as positions
            inner join touched
                on
                    positions.ledger = touched.ledger
                    and positions.party = touched.party
                    and positions.account_class = touched.account_class
                    and positions.custodial = touched.custodial
                    and positions.currency = touched.currency
                    and positions.position_date < touched.first_date
        ) as earlier
        where age = 1
    {% else %}
        select
            ledger,
            party,
            account_class,
            custodial,
            currency,
            cast(0 as decimal(38, 0)) as balance,
            cast(0 as bigint) as last_seq
        from touched
    {% endif %}
)

{% set so_far %}
    partition by
        movements.ledger,
        movements.party,
        movements.account_class,
        movements.custodial,
        movements.currency
    order by movements.position_date rows between unbounded preceding and current row
{% endset %}
select
    movements.ledger,
    movements.party,
    movements.position_date,
    movements.account_class,
    movements.custodial,
    movements.currency,
    movements.exponent,
    movements.debits,
    movements.credits,
    cast(
        coalesce(opening.balance, 0) + {{ running_money('movements.movement', so_far) }}
        as decimal(38, 0)
    ) as balance,
    greatest(coalesce(opening.last_seq, 0), max(movements.last_seq) over ({{ so_far }}))
        as last_seq
from movements
left join opening
    on
        movements.ledger = opening.ledger
        and movements.party = opening.party
        and movements.account_class = opening.account_class
        and movements.custodial = opening.custodial
        and movements.currency = opening.currency
