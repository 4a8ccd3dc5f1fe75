{{ config(materialized='incremental', unique_key=['ledger', 'seq']) }}

with arrived as (
    select distinct
        ledger,
        seq,
        kind,
        channel,
        effective_at,
        effective_date,
        business_date,
        recorded_at,
        cast(recorded_at as date) as recorded_date,
        rail_reference,
        counterparty,
        counterparty_country,
        conductor,
        value_date,
        reverses_seq,
        corrects_seq,
        captures_seq,
        rate_sell,
        rate_buy,
        rate_numerator,
        rate_denominator,
        applied_rule,
        applied_version,
        applied_account,
        applied_of_amount,
        applied_first_day,
        applied_last_day,
        imposed,
        approval,
        actor,
        entry_count
    from {{ ref('stg_transactions') }}
    where {{ new_since() }}
),

-- The first reversal names a transaction as reversed; later partial ones change nothing here.
reversed as (
    select
        ledger,
        reverses_seq as seq,
        min(seq) as reversed_by_seq
    from arrived
    where reverses_seq is not null
    group by ledger, reverses_seq
)

{% set columns = [
    'ledger', 'seq', 'kind', 'channel', 'effective_at', 'effective_date', 'business_date',
    'recorded_at', 'recorded_date', 'rail_reference', 'counterparty', 'counterparty_country',
    'conductor', 'value_date', 'reverses_seq',
] %}
{% set further_columns = [
    'corrects_seq', 'captures_seq', 'rate_sell', 'rate_buy', 'rate_numerator', 'rate_denominator',
    'applied_rule', 'applied_version', 'applied_account', 'applied_of_amount', 'applied_first_day',
    'applied_last_day', 'imposed', 'approval', 'actor', 'entry_count',
] %}
select
    {% for column in columns %}arrived.{{ column }},
    {% endfor %}
    reversed.reversed_by_seq,
    {% for column in further_columns %}arrived.{{ column }},
    {% endfor %}
    greatest(arrived.seq, coalesce(reversed.reversed_by_seq, 0)) as last_seq
from arrived
left join reversed
    on arrived.ledger = reversed.ledger and arrived.seq = reversed.seq
{% if is_incremental() %}
    union all

    -- Older ones that what arrived reverses.
    select
        {% for column in columns %}older.{{ column }},
        {% endfor %}
        reversed.reversed_by_seq,
        {% for column in further_columns %}older.{{ column }},
        {% endfor %}
        reversed.reversed_by_seq as last_seq
    from {{ this }} as older
    inner join reversed
        on older.ledger = reversed.ledger and older.seq = reversed.seq
    where older.reversed_by_seq is null
{% endif %}
