select
    candidate_id,
    ledger,
    subject as person,
    day as business_date,
    case when role = 'cash_in' then 'in' else 'out' end as direction,
    {{ sum_money('amount') }} as amount,
    currency,
    exponent,
    count(*) as entry_count,
    -- 31 CFR 1010.306(a)(1): within 15 calendar days of the transaction.
    {{ add_days('day', 15) }} as due_date,
    max(seq) as last_seq
from {{ ref('int_alert_evidence') }}
where rule = 'ctr_aggregation'
group by candidate_id, ledger, subject, day, role, currency, exponent
