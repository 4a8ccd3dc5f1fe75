{{ config(materialized='incremental', unique_key=['ledger', 'seq']) }}

-- Both sides of a hold balance, so its debits say how much it is.
with amounts as (
    select
        ledger,
        seq,
        currency,
        exponent,
        {{ sum_money('placed') }} as placed,
        {{ sum_money('captured') }} as captured,
        {{ sum_money('released') }} as released,
        {{ sum_money('pending') }} as pending,
        max(last_seq) as last_seq
    from {{ ref('hold_legs') }}
    where side = 'debit' and {{ new_since('last_seq') }}
    group by ledger, seq, currency, exponent
),

arrived as (
    select
        ledger,
        seq,
        recorded_at,
        event_type,
        hold_seq,
        kind,
        channel,
        expires_at,
        cause,
        reason
    from {{ ref('stg_holds') }}
    where {{ new_since() }}
),

captures as (
    select
        ledger,
        hold_seq,
        count(*) as capture_count,
        max(case when ends_hold then seq end) as ended_seq,
        max(case when ends_hold then recorded_at end) as ended_at
    from (
        select distinct
            ledger,
            captures_seq as hold_seq,
            seq,
            recorded_at,
            ends_hold
        from {{ ref('stg_transactions') }}
        where captures_seq is not null and {{ new_since() }}
    ) as arrived_captures
    group by ledger, hold_seq
),

placed as (
    select
        ledger,
        seq,
        kind,
        channel,
        recorded_at as placed_at,
        expires_at,
        cast(0 as bigint) as capture_count
    from arrived
    where event_type = 'hold.placed'
    {% if is_incremental() %}
        union all
        select
            holds.ledger,
            holds.seq,
            holds.kind,
            holds.channel,
            holds.placed_at,
            holds.expires_at,
            holds.capture_count
        from {{ this }} as holds
        inner join amounts on holds.ledger = amounts.ledger and holds.seq = amounts.seq
    {% endif %}
)

select
    placed.ledger,
    placed.seq,
    placed.kind,
    placed.channel,
    placed.placed_at,
    placed.expires_at,
    amounts.currency,
    amounts.exponent,
    amounts.placed,
    amounts.captured,
    amounts.released,
    amounts.pending,
    cast(placed.capture_count + coalesce(captures.capture_count, 0) as bigint) as capture_count,
    case
        when released.cause is not null then released.cause
        when captures.ended_seq is not null then 'captured'
        else 'open'
    end as state,
    coalesce(released.seq, captures.ended_seq) as ended_seq,
    coalesce(released.recorded_at, captures.ended_at) as ended_at,
    released.reason,
    amounts.last_seq
from placed
inner join amounts on placed.ledger = amounts.ledger and placed.seq = amounts.seq
left join captures on placed.ledger = captures.ledger and placed.seq = captures.hold_seq
left join arrived as released
    on
        placed.ledger = released.ledger
        and placed.seq = released.hold_seq
        and released.event_type = 'hold.released'
