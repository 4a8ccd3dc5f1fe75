{{ config(materialized='table') }}

-- Accounts and persons of whom the rules have to look at everything again: what they did has
-- changed since the rules looked last (`int_rules_looked`). No rule looks at two of them together.
-- depends_on: {{ ref('int_rule_parameters') }}
with arrived as (
    select
        ledger,
        account as subject
    from {{ ref('entries') }}
    where account like 'customer:%' and {{ not_looked_at('seq') }}
),

-- What a reversal took back is written again, with its `seq`.
moved as (
    select
        ledger,
        person,
        conductor
    from {{ ref('int_monitored_entries') }}
    where {{ not_looked_at('last_seq') }}
)

select
    ledger,
    subject
from arrived
union distinct
select
    ledger,
    person as subject
from moved
union distinct
select
    ledger,
    conductor as subject
from moved
where conductor is not null
