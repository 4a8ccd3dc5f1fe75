with opened as (
    select
        ledger,
        account,
        currency,
        account_class,
        normal_side,
        custodial,
        gl_code,
        owner,
        floor,
        ceiling,
        recorded_at,
        seq
    from {{ ref('stg_accounts') }}
    where event_type = 'account.opened'
),

changes as (
    select
        ledger,
        account,
        status,
        seq,
        row_number() over (partition by ledger, account order by seq desc) as age
    from {{ ref('stg_accounts') }}
)

select
    opened.ledger,
    opened.account,
    opened.currency,
    currencies.exponent,
    opened.account_class,
    opened.normal_side,
    opened.custodial,
    opened.gl_code,
    opened.owner,
    opened.floor,
    opened.ceiling,
    changes.status,
    opened.recorded_at as opened_at,
    opened.seq as opened_seq,
    changes.seq as last_seq
from opened
inner join changes
    on
        opened.ledger = changes.ledger
        and opened.account = changes.account
        and changes.age = 1
left join {{ ref('int_currencies') }} as currencies
    on opened.ledger = currencies.ledger and opened.currency = currencies.currency
