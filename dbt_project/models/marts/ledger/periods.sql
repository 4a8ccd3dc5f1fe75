-- Few events, so all of them are looked at each time.
with events as (
    select
        ledger,
        seq,
        recorded_at,
        case event_type
            when 'period.soft_closed' then 'soft_closed'
            when 'period.closed' then 'closed'
            when 'period.reopened' then 'reopened'
            when 'day.attested' then 'attested'
        end as state,
        day,
        reference,
        reason,
        approval,
        tree_root
    from {{ ref('stg_periods') }}
),

-- A reopening takes back closings and attestations from its day on; what was soft-closed stays so.
lifted as (
    select
        events.ledger,
        events.seq,
        min(reopenings.seq) as reopened_by_seq,
        min(reopenings.day) as reopened_since,
        max(reopenings.seq) as last_seq
    from events
    inner join events as reopenings
        on
            events.ledger = reopenings.ledger
            and events.seq < reopenings.seq
            and events.day >= reopenings.day
            and reopenings.state = 'reopened'
    where events.state in ('closed', 'attested')
    group by events.ledger, events.seq
)

select
    events.ledger,
    events.seq,
    events.recorded_at,
    events.state,
    events.day,
    case
        when events.state = 'reopened' then null
        when lifted.seq is null then events.day
        when events.state = 'closed' then {{ add_days('lifted.reopened_since', '-1') }}
    end as stands_through,
    lifted.reopened_by_seq,
    events.reference,
    events.reason,
    events.approval,
    events.tree_root,
    greatest(events.seq, coalesce(lifted.last_seq, 0)) as last_seq
from events
left join lifted on events.ledger = lifted.ledger and events.seq = lifted.seq
