{{ config(materialized='incremental', unique_key=['ledger', 'seq', 'entry_no']) }}
{% set what_is_new = new_since() %}

with arrived as (
    select distinct
        ledger,
        seq,
        entry_no,
        account,
        side,
        amount,
        currency
    from {{ ref('stg_entries') }}
    where {{ what_is_new }}
),

arrived_transactions as (
    select distinct
        ledger,
        seq,
        kind,
        channel,
        effective_at,
        effective_date,
        business_date,
        recorded_at,
        reverses_seq,
        rail_reference
    from {{ ref('stg_transactions') }}
    where {{ what_is_new }}
)

select
    arrived.ledger,
    arrived.seq,
    arrived.entry_no,
    arrived.account,
    accounts.account_class,
    accounts.custodial,
    arrived.side,
    arrived.amount,
    case when arrived.side = accounts.normal_side then arrived.amount else -arrived.amount end
        as signed_amount,
    arrived.currency,
    currencies.exponent,
    arrived_transactions.kind,
    arrived_transactions.channel,
    arrived_transactions.effective_at,
    arrived_transactions.effective_date,
    arrived_transactions.business_date,
    arrived_transactions.recorded_at,
    arrived_transactions.reverses_seq,
    arrived_transactions.rail_reference,
    coalesce(items.reconciliation_status, 'not_applicable') as reconciliation_status,
    items.break_id,
    arrived.seq as last_seq
from arrived
left join arrived_transactions
    on arrived.ledger = arrived_transactions.ledger and arrived.seq = arrived_transactions.seq
left join {{ ref('accounts') }} as accounts
    on arrived.ledger = accounts.ledger and arrived.account = accounts.account
left join {{ ref('int_currencies') }} as currencies
    on arrived.ledger = currencies.ledger and arrived.currency = currencies.currency
left join {{ ref('int_reconciliation_items') }} as items
    on
        arrived.ledger = items.ledger
        and arrived.seq = items.seq
        and arrived.entry_no = items.entry_no
{% if is_incremental() %}
    union all

    -- Older entries that a statement has since confirmed, or put in question.
    select
        older.ledger,
        older.seq,
        older.entry_no,
        older.account,
        older.account_class,
        older.custodial,
        older.side,
        older.amount,
        older.signed_amount,
        older.currency,
        older.exponent,
        older.kind,
        older.channel,
        older.effective_at,
        older.effective_date,
        older.business_date,
        older.recorded_at,
        older.reverses_seq,
        older.rail_reference,
        items.reconciliation_status,
        items.break_id,
        older.last_seq
    from {{ this }} as older
    inner join {{ ref('int_reconciliation_items') }} as items
        on
            older.ledger = items.ledger
            and older.seq = items.seq
            and older.entry_no = items.entry_no
    where
        older.reconciliation_status <> items.reconciliation_status
        or coalesce(older.break_id, '') <> coalesce(items.break_id, '')
{% endif %}
