{{ config(materialized='view') }}

-- Statements may come before the ledger that they are compared with.
with ledgers as (
    select ledger
    from {{ ref('stg_ledgers') }}
    union
    select ledger
    from {{ ref('stg_statement_accounts') }}
)

select
    ledgers.ledger,
    currencies.currency,
    currencies.exponent
from ledgers
cross join {{ ref('currencies') }} as currencies
union all
select
    ledger,
    currency,
    exponent
from {{ ref('stg_currencies') }}
