{{ config(materialized='incremental', unique_key=['ledger', 'seq', 'entry_no']) }}

-- Read from staging and not from the mart `entries`, which carries this reconciliation's result.
with reconciled_accounts as (
    select distinct
        ledger,
        account
    from {{ ref('int_statement_accounts') }}
    where purpose in ('fbo', 'operating')
),

{% if is_incremental() %}
    -- An account registered late brings its whole past.
    registered_late as (
        select reconciled_accounts.*
        from reconciled_accounts
        where not exists (
            select 1
            from {{ this }} as known
            where
                known.ledger = reconciled_accounts.ledger
                and known.account = reconciled_accounts.account
        )
    ),
{% endif %}

arrived as (
    {% set wanted = ['reconciled_accounts'] + (['registered_late'] if is_incremental() else []) %}
    {% for accounts in wanted %}
        select
            entries.ledger,
            entries.seq,
            entries.entry_no,
            entries.account,
            entries.side,
            entries.amount,
            entries.currency
        from {{ ref('stg_entries') }} as entries
        inner join {{ accounts }} as wanted
            on entries.ledger = wanted.ledger and entries.account = wanted.account
        {% if accounts == 'reconciled_accounts' %}
            where {{ new_since(seq='entries.seq', ledger='entries.ledger') }}
        {% endif %}
        {{ 'union all' if not loop.last }}
    {% endfor %}
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
inner join {{ ref('stg_transactions') }} as transactions
    on arrived.ledger = transactions.ledger and arrived.seq = transactions.seq
