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
{% set what_is_new = new_since(seq='facts.seq', ledger='facts.ledger') %}
{% set is_late = is_incremental() and not is_empty(late) %}
with wanted as (
    {{ accounts }}
),

arrived as (
    select
        facts.ledger,
        facts.seq,
        facts.entry_no,
        facts.account,
        facts.side,
        facts.amount,
        facts.currency
    from {{ ref('stg_entries') }} as facts
    inner join wanted
        on facts.ledger = wanted.ledger and facts.account = wanted.account
    {% if is_late %}
        left join ({{ late }}) as late
            on facts.ledger = late.ledger and facts.account = late.account
        where
            late.account is not null
            or {{ what_is_new }}
    {% else %}
        where {{ what_is_new }}
    {% endif %}
),

transactions as (
    select
        facts.ledger,
        facts.seq,
        facts.kind,
        facts.effective_date,
        facts.rail_reference
    from {{ ref('stg_transactions') }} as facts
    {% if not is_late %}
        where {{ what_is_new }}
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
