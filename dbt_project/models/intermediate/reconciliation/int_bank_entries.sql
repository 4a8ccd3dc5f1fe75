{{ config(materialized='incremental', unique_key=['ledger', 'seq', 'entry_no']) }}

-- Read from staging and not from the mart `entries`, which carries this reconciliation's result.
with reconciled_accounts as (
    select distinct
        ledger,
        account
    from {{ ref('int_statement_accounts') }}
    where purpose in ('fbo', 'operating')
),

arrived as (
    select distinct
        entries.ledger,
        entries.seq,
        entries.entry_no,
        entries.account,
        entries.side,
        entries.amount,
        entries.currency
    from {{ ref('stg_entries') }} as entries
    inner join reconciled_accounts
        on
            entries.ledger = reconciled_accounts.ledger
            and entries.account = reconciled_accounts.account
    where
        {{ new_since(seq='entries.seq', ledger='entries.ledger') }}
        {% if is_incremental() %}
            -- An account registered late brings its whole past.
            or not exists (
                select 1
                from {{ this }} as known
                where known.ledger = entries.ledger and known.account = entries.account
            )
        {% endif %}
),

arrived_transactions as (
    select distinct
        ledger,
        seq,
        kind,
        effective_date,
        rail_reference
    from {{ ref('stg_transactions') }}
)

select
    arrived.ledger,
    arrived.seq,
    arrived.entry_no,
    arrived.account,
    case when arrived.side = 'debit' then 'credit' else 'debit' end as bank_side,
    arrived.amount,
    case when arrived.side = 'debit' then arrived.amount else -arrived.amount end as bank_amount,
    arrived.currency,
    transactions.kind,
    transactions.effective_date,
    transactions.rail_reference,
    arrived.seq as last_seq
from arrived
inner join arrived_transactions as transactions
    on arrived.ledger = transactions.ledger and arrived.seq = transactions.seq
