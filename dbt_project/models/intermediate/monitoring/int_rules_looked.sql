{{ config(materialized='table') }}

-- What the rules have looked at: to be read by the next run, so it comes behind all that is made
-- anew for the subjects that this one touched.
-- depends_on: {{ ref('alert_candidates') }}
with parameters as (
    select
        ledger,
        {{ rules_as_they_are() }} as rules
    from {{ ref('int_rule_parameters') }}
    group by ledger
),

seen as (
    select
        ledger,
        max(last_seq) as last_seq
    from {{ ref('account_balances_current') }}
    group by ledger
)

select
    seen.ledger,
    seen.last_seq,
    parameters.rules
from seen
inner join parameters on seen.ledger = parameters.ledger
