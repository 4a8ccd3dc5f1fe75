{% set subject = 'ledger, account, version' %}
{% set so_far = 'rows between unbounded preceding and current row' %}
with parameters as (
    {{ rule_parameters(
        'fan_in',
        ['min_senders', 'new_percent', 'min_value', 'window_days', 'learning_days', 'times_usual']
    ) }}
),

-- An account that came with an opening balance had a life that the ledger doesn't know: whoever
-- sends during its first days counts as known. One that began here knows nobody.
opening_balances as (
    select distinct
        ledger,
        account
    from {{ ref('entries') }}
    where kind = 'opening_balance'
),

account_starts as (
    select
        daily.ledger,
        daily.account,
        min({{ day_number('daily.balance_date') }}) as first_day,
        max(case when opening_balances.account is null then 0 else 1 end) as has_past
    from {{ ref('account_balances_daily') }} as daily
    inner join {{ ref('int_touched_subjects') }} as touched
        on daily.ledger = touched.ledger and daily.account = touched.subject
    left join opening_balances
        on
            daily.ledger = opening_balances.ledger
            and daily.account = opening_balances.account
    where daily.account like 'customer:%'
    group by daily.ledger, daily.account
),

inflows as (
    select
        entries.ledger,
        entries.account,
        parameters.version,
        entries.counterparty,
        entries.seq,
        entries.entry_no,
        entries.amount,
        entries.currency,
        entries.exponent,
        entries.day_no,
        entries.effective_date,
        starts.first_day + starts.has_past * parameters.learning_days as known_from,
        parameters.window_days
    from {{ ref('int_monitored_entries') }} as entries
    inner join parameters
        on entries.ledger = parameters.ledger and entries.currency = parameters.currency
    inner join account_starts as starts
        on entries.ledger = starts.ledger and entries.account = starts.account
    where
        entries.direction = 'in'
        and entries.amount > 0
        and not entries.is_own_transfer
        and entries.counterparty is not null
),

sender_days as (
    select
        {{ subject }},
        counterparty,
        day_no,
        known_from,
        window_days,
        {{ sum_money('amount') }} as amount
    from inflows
    group by {{ subject }}, counterparty, day_no, known_from, window_days
),

{% set of_sender = 'partition by ' ~ subject ~ ', counterparty' %}
senders as (
    select
        {{ subject }},
        day_no,
        window_days,
        amount,
        lag(day_no) over ({{ of_sender }} order by day_no) as previous_day,
        lead(day_no) over ({{ of_sender }} order by day_no) as next_day,
        min(day_no) over ({{ of_sender }}) as first_day,
        min(day_no) over ({{ of_sender }}) >= known_from as is_newcomer
    from sender_days
),

-- What enters a window ending on `day_no`, and what leaves it. A sender is in the window from each
-- day it sends until `window_days` later; overlapping stays count once. It is new while its first
-- day is in the window. `past_new_value` is what newcomers had brought before the window.
changes as (
    select
        {{ subject }},
        day_no,
        case when previous_day is null or previous_day + window_days <= day_no then 1 else 0 end
            as senders,
        case when is_newcomer and day_no = first_day then 1 else 0 end as new_senders,
        case when is_newcomer and day_no < first_day + window_days then amount else 0 end
            as new_value,
        0 as past_new_value
    from senders
    union all
    select
        {{ subject }},
        day_no + window_days as day_no,
        case when next_day is null or next_day >= day_no + window_days then -1 else 0 end
            as senders,
        case when is_newcomer and day_no = first_day then -1 else 0 end as new_senders,
        0 as new_value,
        case when is_newcomer and day_no < first_day + window_days then amount else 0 end
            as past_new_value
    from senders
    union all
    select
        {{ subject }},
        first_day + window_days as day_no,
        0 as senders,
        0 as new_senders,
        -amount as new_value,
        0 as past_new_value
    from senders
    where is_newcomer and day_no < first_day + window_days
),

change_days as (
    select
        {{ subject }},
        day_no,
        sum(senders) as senders,
        sum(new_senders) as new_senders,
        {{ sum_money('new_value') }} as new_value,
        {{ sum_money('past_new_value') }} as past_new_value
    from changes
    group by {{ subject }}, day_no
),

{% set running = 'partition by ' ~ subject ~ ' order by day_no ' ~ so_far %}
windows as (
    select
        {{ subject }},
        day_no,
        sum(senders) over ({{ running }}) as senders,
        sum(new_senders) over ({{ running }}) as new_senders,
        {{ running_money('new_value', running) }} as new_value,
        {{ running_money('past_new_value', running) }} as past_new_value
    from change_days
),

receiving_days as (
    select
        {{ subject }},
        currency,
        day_no,
        effective_date,
        known_from
    from inflows
    group by {{ subject }}, currency, day_no, effective_date, known_from
),

-- Days of known past before the window: with less than one window of them there is no "usual".
judged as (
    select
        days.ledger,
        days.account,
        days.version,
        days.day_no,
        parameters.window_days,
        coalesce(
            windows.senders >= parameters.min_senders
            and windows.new_senders * 100 >= windows.senders * parameters.new_percent
            and windows.new_value >= parameters.min_value
            and {{ in_force('days.effective_date') }}
            and (
                days.day_no - parameters.window_days + 1 - days.known_from < parameters.window_days
                or windows.new_value * (days.day_no - parameters.window_days + 1 - days.known_from)
                >= windows.past_new_value * parameters.times_usual * parameters.window_days
            ),
            false
        ) as fires
    from receiving_days as days
    inner join parameters
        on
            days.ledger = parameters.ledger
            and days.version = parameters.version
            and days.currency = parameters.currency
    inner join windows
        on
            days.ledger = windows.ledger
            and days.account = windows.account
            and days.version = windows.version
            and days.day_no = windows.day_no
),

evidence_days as (
    select
        ledger,
        account,
        version,
        day_no,
        case
            when
                day_no - lag(day_no) over (partition by {{ subject }} order by day_no)
                <= window_days
                then 0
            else 1
        end as begins
    from (
        select
            judged.*,
            min(case when fires then day_no end) over (
                partition by {{ subject }} order by day_no
                rows between current row and unbounded following
            ) as next_fired_day
        from judged
    ) as fired
    where next_fired_day - day_no < window_days
),

islands as (
    select
        {{ subject }},
        day_no,
        sum(begins) over (partition by {{ subject }} order by day_no {{ so_far }}) as island
    from evidence_days
),

first_days as (
    select
        {{ subject }},
        counterparty,
        min(day_no) as first_day
    from inflows
    group by {{ subject }}, counterparty
)

select
    'fan_in' as rule,
    inflows.version as rule_version,
    parameters.parameters_hash,
    inflows.ledger,
    inflows.account as subject,
    'account' as subject_kind,
    inflows.currency,
    inflows.exponent,
    {{ as_text('islands.island') }} as island,
    inflows.seq,
    inflows.entry_no,
    inflows.amount,
    case
        when
            first_days.first_day >= inflows.known_from
            and inflows.day_no < first_days.first_day + inflows.window_days
            then 'from_new_sender'
        else 'from_known_sender'
    end as role,
    inflows.effective_date as day,
    inflows.counterparty,
    parameters.min_value as score_unit
from inflows
inner join islands
    on
        inflows.ledger = islands.ledger
        and inflows.account = islands.account
        and inflows.version = islands.version
        and inflows.day_no = islands.day_no
inner join first_days
    on
        inflows.ledger = first_days.ledger
        and inflows.account = first_days.account
        and inflows.version = first_days.version
        and inflows.counterparty = first_days.counterparty
inner join parameters
    on
        inflows.ledger = parameters.ledger
        and inflows.version = parameters.version
        and inflows.currency = parameters.currency
