{{ config(materialized='table') }}

-- Accounts and persons of whom the rules have to look at everything again: what they did has
-- changed since the rules looked last (`int_rules_looked`). No rule looks at two of them together.
-- depends_on: {{ ref('int_rule_parameters') }}
{% set not_yet = not_looked_at() %}
with arrived as (
    select
        ledger,
        account as subject
    from {{ ref('entries') }}
    where account like 'customer:%' and {{ not_yet }}
),

-- What a reversal took back is written again, with its `seq`.
moved as (
    select
        ledger,
        person,
        conductor
    from (
        select
            ledger,
            person,
            conductor,
            last_seq as seq
        from {{ ref('int_monitored_entries') }}
    ) as movements
    where {{ not_yet }}
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
