{{ config(materialized='incremental', unique_key=['ledger', 'seq', 'account', 'side']) }}

with arrived_holds as (
    select
        ledger,
        seq,
        event_type,
        hold_seq
    from {{ ref('stg_holds') }}
    where {{ new_since() }}
),

arrived_captures as (
    select distinct
        ledger,
        seq,
        captures_seq as hold_seq,
        ends_hold
    from {{ ref('stg_transactions') }}
    where captures_seq is not null and {{ new_since() }}
),

-- Joined before repeats are removed: where nothing was captured no entry is read.
captured_entries as (
    select distinct
        arrived_captures.ledger,
        arrived_captures.hold_seq,
        entries.seq,
        entries.entry_no,
        entries.account,
        entries.side,
        entries.amount,
        entries.currency
    from arrived_captures
    inner join {{ ref('stg_entries') }} as entries
        on arrived_captures.ledger = entries.ledger and arrived_captures.seq = entries.seq
    where {{ new_since(seq='entries.seq', ledger='entries.ledger') }}
),

arrived as (
    select
        arrived_holds.ledger,
        arrived_holds.hold_seq,
        entries.account,
        entries.side,
        entries.currency,
        case when arrived_holds.event_type = 'hold.placed' then entries.amount else 0 end as placed,
        cast(0 as bigint) as captured,
        case when arrived_holds.event_type = 'hold.released' then entries.amount else 0 end
            as released,
        arrived_holds.seq as last_seq
    from arrived_holds
    inner join {{ ref('stg_hold_entries') }} as entries
        on arrived_holds.ledger = entries.ledger and arrived_holds.seq = entries.seq
    where {{ new_since(seq='entries.seq', ledger='entries.ledger') }}
    union all
    select
        ledger,
        hold_seq,
        account,
        side,
        currency,
        cast(0 as bigint) as placed,
        amount as captured,
        cast(0 as bigint) as released,
        seq as last_seq
    from captured_entries
),

old_and_new as (
    select
        ledger,
        hold_seq,
        account,
        side,
        currency,
        placed,
        captured,
        released,
        last_seq
    from arrived
    {% if is_incremental() %}
        union all
        -- All legs of a hold: a small capture may leave one out that its end releases all the same.
        select
            legs.ledger,
            legs.seq as hold_seq,
            legs.account,
            legs.side,
            legs.currency,
            legs.placed,
            legs.captured,
            legs.released,
            legs.last_seq
        from {{ this }} as legs
        inner join (
            select distinct
                ledger,
                hold_seq
            from arrived
        ) as touched
            on legs.ledger = touched.ledger and legs.seq = touched.hold_seq
    {% endif %}
),

legs as (
    select
        ledger,
        hold_seq,
        account,
        side,
        currency,
        {{ sum_money('placed') }} as placed,
        {{ sum_money('captured') }} as captured,
        {{ sum_money('released') }} as released,
        max(last_seq) as last_seq
    from old_and_new
    group by ledger, hold_seq, account, side, currency
),

-- What such a capture leaves is released with it; no event of its own says so.
ended_by_capture as (
    select
        ledger,
        hold_seq
    from arrived_captures
    where ends_hold
    group by ledger, hold_seq
),

counted as (
    select
        legs.ledger,
        legs.hold_seq as seq,
        legs.account,
        legs.side,
        legs.currency,
        legs.placed,
        legs.captured,
        case
            when ended_by_capture.hold_seq is null then legs.released
            else cast(legs.placed - legs.captured as decimal(38, 0))
        end as released,
        max(legs.last_seq) over (partition by legs.ledger, legs.hold_seq) as last_seq
    from legs
    left join ended_by_capture
        on legs.ledger = ended_by_capture.ledger and legs.hold_seq = ended_by_capture.hold_seq
)

select
    counted.ledger,
    counted.seq,
    counted.account,
    counted.side,
    counted.currency,
    currencies.exponent,
    counted.placed,
    counted.captured,
    counted.released,
    cast(counted.placed - counted.captured - counted.released as decimal(38, 0)) as pending,
    counted.last_seq
from counted
left join {{ ref('int_currencies') }} as currencies
    on counted.ledger = currencies.ledger and counted.currency = currencies.currency
