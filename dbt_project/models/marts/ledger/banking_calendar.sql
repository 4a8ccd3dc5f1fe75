{{ config(tags=['steady']) }}

with days as (
    {{ every_day('2020-01-01', '2036-01-01') }}
),

calendars as (
    select distinct calendar
    from {{ ref('banking_holidays') }}
),

marked as (
    select
        calendars.calendar,
        cast(days.date_day as date) as day,
        {{ iso_weekday('cast(days.date_day as date)') }} <= 5 and holidays.day is null
            as is_banking_day
    from days
    cross join calendars
    left join {{ ref('banking_holidays') }} as holidays
        on
            calendars.calendar = holidays.calendar
            and cast(days.date_day as date) = holidays.day
)

select
    calendar,
    day,
    is_banking_day,
    min(case when is_banking_day then day end) over (
        partition by calendar order by day rows between 1 following and unbounded following
    ) as next_banking_day,
    cast(0 as bigint) as last_seq
from marked
