{% set subject = 'ledger, person, currency, version' %}
with parameters as (
    {{ rule_parameters('structuring', ['threshold', 'floor', 'min_count', 'window_days']) }}
),

deposits as (
    select
        cash.ledger,
        cash.person,
        cash.person_kind,
        cash.currency,
        cash.exponent,
        cash.seq,
        cash.entry_no,
        cash.amount,
        cash.day_no,
        cash.effective_date,
        parameters.version,
        parameters.parameters_hash,
        parameters.threshold,
        parameters.min_count,
        parameters.window_days,
        {{ in_force('cash.effective_date') }} as is_in_force
    from {{ ref('int_cash_by_person') }} as cash
    inner join {{ ref('int_touched_subjects') }} as touched
        on cash.ledger = touched.ledger and cash.person = touched.subject
    inner join parameters
        on cash.ledger = parameters.ledger and cash.currency = parameters.currency
    where
        cash.direction = 'in'
        and cash.amount >= parameters.floor
        and cash.amount <= parameters.threshold
),

-- A deposit enters the window on its day and leaves it `window_days` later.
changes as (
    select
        {{ subject }},
        day_no,
        1 as deposit_count,
        amount
    from deposits
    union all
    select
        {{ subject }},
        day_no + window_days as day_no,
        -1 as deposit_count,
        -amount as amount
    from deposits
),

change_days as (
    select
        {{ subject }},
        day_no,
        sum(deposit_count) as deposit_count,
        {{ sum_money('amount') }} as amount
    from changes
    group by {{ subject }}, day_no
),

{% set so_far %}
    partition by {{ subject }} order by day_no rows between unbounded preceding and current row
{% endset %}
windows as (
    select
        {{ subject }},
        day_no,
        sum(deposit_count) over ({{ so_far }}) as deposit_count,
        {{ running_money('amount', so_far) }} as amount
    from change_days
),

fired as (
    select
        deposits.*,
        min(
            case
                when
                    windows.deposit_count >= deposits.min_count
                    and windows.amount > deposits.threshold
                    and deposits.is_in_force
                    then deposits.day_no
            end
        ) over (
            partition by
                deposits.ledger, deposits.person, deposits.currency, deposits.version
            order by deposits.day_no, deposits.seq, deposits.entry_no
            rows between current row and unbounded following
        ) as next_fired_day
    from deposits
    inner join windows
        on
            deposits.ledger = windows.ledger
            and deposits.person = windows.person
            and deposits.currency = windows.currency
            and deposits.version = windows.version
            and deposits.day_no = windows.day_no
),

evidence as (
    select
        fired.*,
        case
            when
                fired.day_no - lag(fired.day_no) over (
                    partition by {{ subject }} order by day_no, seq, entry_no
                ) <= fired.window_days
                then 0
            else 1
        end as begins
    from fired
    where fired.next_fired_day - fired.day_no < fired.window_days
),

islands as (
    select
        evidence.*,
        sum(begins) over (
            partition by {{ subject }} order by day_no, seq, entry_no
            rows between unbounded preceding and current row
        ) as island
    from evidence
)

select
    'structuring' as rule,
    version as rule_version,
    parameters_hash,
    ledger,
    person as subject,
    person_kind as subject_kind,
    currency,
    exponent,
    {{ as_text('island') }} as island,
    seq,
    entry_no,
    amount,
    'cash_in' as role,
    effective_date as day,
    {{ as_text('null') }} as counterparty,
    threshold as score_unit
from islands
