{% set subject = 'ledger, account, version' %}
{% set in_time = 'order by moment, is_probe, seq, entry_no' %}
{% set days_touched = quotient('parameters.window_hours + 23', 24) %}
{% set so_far = 'rows between unbounded preceding and current row' %}
with
{% call step('parameters') %}
    {{ rule_parameters(
        'rapid_movement',
        [
            'min_inflow', 'forwarded_percent', 'balance_percent', 'window_hours', 'min_times',
            'period_days',
        ]
    ) }}
{% endcall %},

-- Inflows after which the account is as good as empty at the end of one of the days that the hours
-- touch. Few accounts have any, so this comes first.
{% call step('emptied', keep=true) %}
    select
        entries.ledger,
        entries.account,
        parameters.version,
        entries.seq,
        entries.entry_no
    from {{ ref('int_monitored_entries') }} as entries
    inner join {{ ref('int_touched_subjects') }} as touched
        on entries.ledger = touched.ledger and entries.account = touched.subject
    inner join parameters
        on entries.ledger = parameters.ledger and entries.currency = parameters.currency
    inner join {{ ref('account_balances_daily') }} as daily
        on
            entries.ledger = daily.ledger
            and entries.account = daily.account
            and entries.effective_date <= daily.balance_date
            and {{ add_days('entries.effective_date', days_touched) }} >= daily.balance_date
    where
        entries.direction = 'in'
        and not entries.is_own_transfer
        and entries.amount >= parameters.min_inflow
    group by
        entries.ledger, entries.account, parameters.version, entries.seq, entries.entry_no,
        entries.amount, parameters.balance_percent
    having min(daily.balance) * 100 <= entries.amount * parameters.balance_percent
{% endcall %},

{% call step('emptied_accounts') %}
    select distinct {{ subject }}
    from emptied
{% endcall %},

{% call step('moves', keep=true) %}
    select
        entries.ledger,
        entries.account,
        parameters.version,
        entries.moment,
        0 as is_probe,
        entries.seq,
        entries.entry_no,
        entries.direction,
        entries.amount,
        entries.currency,
        entries.exponent,
        entries.day_no,
        entries.effective_date,
        parameters.min_inflow,
        cast(parameters.window_hours as bigint) * 3600000000 as window_us
    from {{ ref('int_monitored_entries') }} as entries
    inner join parameters
        on entries.ledger = parameters.ledger and entries.currency = parameters.currency
    inner join emptied_accounts
        on
            entries.ledger = emptied_accounts.ledger
            and entries.account = emptied_accounts.account
            and parameters.version = emptied_accounts.version
    where not entries.is_own_transfer and entries.amount > 0
{% endcall %},

-- A probe stands where an inflow's hours end, and reads how much had gone out by then.
{% call step('timeline') %}
    select
        {{ subject }},
        moment,
        is_probe,
        seq,
        entry_no,
        case when direction = 'out' then amount else 0 end as outflow
    from moves
    union all
    select
        {{ subject }},
        moment + window_us as moment,
        1 as is_probe,
        seq,
        entry_no,
        0 as outflow
    from moves
    where direction = 'in' and amount >= min_inflow
{% endcall %},

{% call step('outflows') %}
    select
        {{ subject }},
        is_probe,
        seq,
        entry_no,
        {{ running_money(
            'outflow', 'partition by ' ~ subject ~ ' ' ~ in_time ~ ' ' ~ so_far
        ) }} as outflow
    from timeline
{% endcall %},

{% call step('forwarded') %}
    select
        moves.ledger,
        moves.account,
        moves.version,
        moves.moment,
        moves.window_us,
        moves.seq,
        moves.entry_no,
        moves.amount,
        moves.day_no,
        moves.effective_date,
        parameters.min_times,
        parameters.period_days,
        {{ in_force('moves.effective_date') }} as is_in_force
    from moves
    inner join parameters
        on
            moves.ledger = parameters.ledger
            and moves.version = parameters.version
            and moves.currency = parameters.currency
    inner join outflows as at_start
        on
            moves.ledger = at_start.ledger
            and moves.account = at_start.account
            and moves.version = at_start.version
            and moves.seq = at_start.seq
            and moves.entry_no = at_start.entry_no
            and at_start.is_probe = 0
    inner join outflows as at_end
        on
            moves.ledger = at_end.ledger
            and moves.account = at_end.account
            and moves.version = at_end.version
            and moves.seq = at_end.seq
            and moves.entry_no = at_end.entry_no
            and at_end.is_probe = 1
    where
        (at_end.outflow - at_start.outflow) * 100 >= moves.amount * parameters.forwarded_percent
{% endcall %},

{% call step('passes', keep=true) %}
    select forwarded.*
    from forwarded
    inner join emptied
        on
            forwarded.ledger = emptied.ledger
            and forwarded.account = emptied.account
            and forwarded.version = emptied.version
            and forwarded.seq = emptied.seq
            and forwarded.entry_no = emptied.entry_no
{% endcall %},

-- Times are days: several inflows of one day that leave together are one time.
pass_days as (
    select
        {{ subject }},
        day_no,
        min_times,
        period_days,
        is_in_force
    from passes
    group by {{ subject }}, day_no, min_times, period_days, is_in_force
),

changes as (
    select
        {{ subject }},
        day_no,
        1 as times
    from pass_days
    union all
    select
        {{ subject }},
        day_no + period_days as day_no,
        -1 as times
    from pass_days
),

change_days as (
    select
        {{ subject }},
        day_no,
        sum(times) as times
    from changes
    group by {{ subject }}, day_no
),

windows as (
    select
        {{ subject }},
        day_no,
        sum(times) over (partition by {{ subject }} order by day_no {{ so_far }}) as times
    from change_days
),

fired_days as (
    select
        pass_days.*,
        min(
            case
                when windows.times >= pass_days.min_times and pass_days.is_in_force
                    then pass_days.day_no
            end
        ) over (
            partition by pass_days.ledger, pass_days.account, pass_days.version
            order by pass_days.day_no
            rows between current row and unbounded following
        ) as next_fired_day
    from pass_days
    inner join windows
        on
            pass_days.ledger = windows.ledger
            and pass_days.account = windows.account
            and pass_days.version = windows.version
            and pass_days.day_no = windows.day_no
),

evidence_days as (
    select
        {{ subject }},
        day_no,
        case
            when
                day_no - lag(day_no) over (partition by {{ subject }} order by day_no)
                <= period_days
                then 0
            else 1
        end as begins
    from fired_days
    where next_fired_day - day_no < period_days
),

islands as (
    select
        {{ subject }},
        day_no,
        sum(begins) over (partition by {{ subject }} order by day_no {{ so_far }}) as island
    from evidence_days
),

evidence_passes as (
    select
        passes.ledger,
        passes.account,
        passes.version,
        passes.seq,
        passes.entry_no,
        passes.moment,
        passes.window_us,
        islands.island
    from passes
    inner join islands
        on
            passes.ledger = islands.ledger
            and passes.account = islands.account
            and passes.version = islands.version
            and passes.day_no = islands.day_no
),

-- An outflow belongs to the last such inflow before it, while that one's hours run.
following as (
    select
        moves.ledger,
        moves.account,
        moves.version,
        moves.seq,
        moves.entry_no,
        moves.direction,
        moves.amount,
        moves.currency,
        moves.exponent,
        moves.moment,
        moves.effective_date,
        moves.window_us,
        evidence_passes.island as own_island,
        max(evidence_passes.moment) over (
            partition by moves.ledger, moves.account, moves.version
            order by moves.moment, moves.seq, moves.entry_no
            rows between unbounded preceding and current row
        ) as last_pass,
        max(evidence_passes.island) over (
            partition by moves.ledger, moves.account, moves.version
            order by moves.moment, moves.seq, moves.entry_no
            rows between unbounded preceding and current row
        ) as last_island
    from moves
    left join evidence_passes
        on
            moves.ledger = evidence_passes.ledger
            and moves.account = evidence_passes.account
            and moves.version = evidence_passes.version
            and moves.seq = evidence_passes.seq
            and moves.entry_no = evidence_passes.entry_no
)

select
    'rapid_movement' as rule,
    following.version as rule_version,
    parameters.parameters_hash,
    following.ledger,
    following.account as subject,
    'account' as subject_kind,
    following.currency,
    following.exponent,
    {{ as_text('following.last_island') }} as island,
    following.seq,
    following.entry_no,
    following.amount,
    case when following.direction = 'in' then 'received' else 'forwarded' end as role,
    following.effective_date as day,
    {{ as_text('null') }} as counterparty,
    parameters.min_inflow as score_unit
from following
inner join parameters
    on
        following.ledger = parameters.ledger
        and following.version = parameters.version
        and following.currency = parameters.currency
where
    following.own_island is not null
    or (
        following.direction = 'out'
        and following.moment - following.last_pass <= following.window_us
    )
