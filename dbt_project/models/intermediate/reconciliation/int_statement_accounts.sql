{{ config(materialized='view') }}

with registrations as (
    select
        statement_account,
        ledger,
        account,
        bank,
        purpose,
        rounded_half_minor_per_entry,
        row_number() over (partition by statement_account order by seq desc) as age
    from {{ ref('stg_statement_accounts') }}
)

select
    registrations.statement_account,
    registrations.ledger,
    registrations.account,
    registrations.bank,
    registrations.purpose,
    registrations.rounded_half_minor_per_entry,
    ledgers.calendar
from registrations
left join {{ ref('stg_ledgers') }} as ledgers
    on registrations.ledger = ledgers.ledger
where registrations.age = 1
