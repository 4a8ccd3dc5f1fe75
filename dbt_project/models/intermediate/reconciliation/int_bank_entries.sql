{{ config(materialized='incremental', unique_key=['ledger', 'seq', 'entry_no']) }}

-- Read from staging and not from the mart `entries`, which carries this reconciliation's result.
-- An account registered late brings its whole past: only then all of it is read.
{% set accounts %}
    select distinct
        ledger,
        account
    from {{ ref('int_statement_accounts') }}
    where purpose in ('fbo', 'operating')
{% endset %}
{% set late %}
    select registered.*
    from ({{ accounts }}) as registered
    where not exists (
        select 1
        from {{ this }} as known
        where known.ledger = registered.ledger and known.account = registered.account
    )
{% endset %}
{% set is_late = is_incremental() and not is_empty(late) %}
with wanted as (
    {{ accounts }}
),

arrived as (
    select
        entries.ledger,
        entries.seq,
        entries.entry_no,
        entries.account,
        entries.side,
        entries.amount,
        entries.currency
    from {{ ref('stg_entries') }} as entries
    inner join wanted
        on entries.ledger = wanted.ledger and entries.account = wanted.account
    {% if is_late %}
        left join ({{ late }}) as late
            on entries.ledger = late.ledger and entries.account = late.account
        where
            late.account is not null
            or {{ new_since(seq='entries.seq', ledger='entries.ledger') }}
    {% else %}
        where {{ new_since(seq='entries.seq', ledger='entries.ledger') }}
    {% endif %}
),

transactions as (
    select
        ledger,
        seq,
        kind,
        effective_date,
        rail_reference
    from {{ ref('stg_transactions') }}
    {% if not is_late %}
        where {{ new_since() }}
    {% endif %}
)

select distinct
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
inner join transactions
    on arrived.ledger = transactions.ledger and arrived.seq = transactions.seq
