{{ config(materialized='view') }}

-- A bank may state a day again: the last statement of a day counts, with its lines.
with versions as (
    select
        statement,
        statement_account,
        statement_date,
        currency,
        opening_balance,
        closing_balance,
        seq,
        row_number() over (partition by statement_account, statement_date order by seq desc) as age
    from {{ ref('stg_statements') }}
)

select
    versions.statement,
    versions.statement_account,
    accounts.ledger,
    accounts.account,
    accounts.bank,
    accounts.purpose,
    accounts.rounded_half_minor_per_entry,
    accounts.calendar,
    versions.statement_date,
    versions.currency,
    versions.opening_balance,
    versions.closing_balance,
    versions.seq
from versions
inner join {{ ref('int_statement_accounts') }} as accounts
    on versions.statement_account = accounts.statement_account
where versions.age = 1
