with movements as (
    select
        daily.ledger,
        daily.balance_date,
        accounts.gl_code,
        accounts.account_class,
        accounts.custodial,
        daily.currency,
        daily.exponent,
        {{ sum_money('daily.debits') }} as debits,
        {{ sum_money('daily.credits') }} as credits,
        max(daily.last_seq) as last_seq
    from {{ ref('account_balances_daily') }} as daily
    inner join {{ ref('accounts') }} as accounts
        on daily.ledger = accounts.ledger and daily.account = accounts.account
    group by
        daily.ledger,
        daily.balance_date,
        accounts.gl_code,
        accounts.account_class,
        accounts.custodial,
        daily.currency,
        daily.exponent
),

-- Every line stands on every day on which its ledger moved, so that each day balances by itself.
days as (
    select distinct
        ledger,
        balance_date,
        currency
    from movements
),

lines as (
    select
        ledger,
        gl_code,
        account_class,
        custodial,
        currency,
        exponent,
        min(balance_date) as first_date
    from movements
    group by ledger, gl_code, account_class, custodial, currency, exponent
),

grid as (
    select
        lines.ledger,
        days.balance_date,
        lines.gl_code,
        lines.account_class,
        lines.custodial,
        lines.currency,
        lines.exponent,
        coalesce(movements.debits, 0) as debits,
        coalesce(movements.credits, 0) as credits,
        coalesce(movements.last_seq, 0) as last_seq
    from lines
    inner join days
        on
            lines.ledger = days.ledger
            and lines.currency = days.currency
            and lines.first_date <= days.balance_date
    left join movements
        on
            lines.ledger = movements.ledger
            and days.balance_date = movements.balance_date
            and lines.gl_code = movements.gl_code
            and lines.account_class = movements.account_class
            and lines.custodial = movements.custodial
            and lines.currency = movements.currency
)

{% set so_far %}
    partition by ledger, gl_code, account_class, custodial, currency
    order by balance_date rows between unbounded preceding and current row
{% endset %}
select
    ledger,
    balance_date,
    gl_code,
    account_class,
    custodial,
    currency,
    exponent,
    debits,
    credits,
    {{ running_money('debits', so_far) }} as closing_debits,
    {{ running_money('credits', so_far) }} as closing_credits,
    max(last_seq) over ({{ so_far }}) as last_seq
from grid
