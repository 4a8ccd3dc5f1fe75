{{ config(tags=['steady']) }}

-- Banking days are numbered, so that "within two banking days" is a subtraction. A day that is none
-- has the number of the banking day before it.
select
    calendar,
    day,
    sum(case when is_banking_day then 1 else 0 end) over (
        partition by calendar order by day rows between unbounded preceding and current row
    ) as banking_day_no
from {{ ref('banking_calendar') }}
