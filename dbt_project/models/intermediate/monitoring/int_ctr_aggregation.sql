with parameters as (
    {{ rule_parameters('ctr_aggregation', ['threshold']) }}
),

cash as (
    select entries.*
    from {{ ref('int_cash_by_person') }} as entries
    inner join {{ ref('int_touched_subjects') }} as touched
        on entries.ledger = touched.ledger and entries.person = touched.subject
),

days as (
    select
        ledger,
        person,
        direction,
        currency,
        business_date,
        {{ sum_money('amount') }} as amount
    from cash
    group by ledger, person, direction, currency, business_date
)

select
    'ctr_aggregation' as rule,
    parameters.version as rule_version,
    parameters.parameters_hash,
    cash.ledger,
    cash.person as subject,
    cash.person_kind as subject_kind,
    cash.currency,
    cash.exponent,
    concat(cash.direction, '|', {{ as_text('cash.business_date') }}) as island,
    cash.seq,
    cash.entry_no,
    cash.amount,
    concat('cash_', cash.direction) as role,
    cash.business_date as day,
    {{ as_text('null') }} as counterparty,
    parameters.threshold as score_unit
from cash
inner join days
    on
        cash.ledger = days.ledger
        and cash.person = days.person
        and cash.direction = days.direction
        and cash.currency = days.currency
        and cash.business_date = days.business_date
inner join parameters
    on cash.ledger = parameters.ledger and cash.currency = parameters.currency
where
    days.amount > parameters.threshold
    and {{ in_force('cash.business_date') }}
