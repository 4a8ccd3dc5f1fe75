{{ config(materialized='table') }}

-- All movements of the subjects that were touched: what the rules read, many times over. A movement
-- may be of others too, who were not: so a rule asks again who was.
select entries.*
from {{ ref('int_monitored_entries') }} as entries
left join {{ ref('int_touched_subjects') }} as accounts
    on entries.ledger = accounts.ledger and entries.account = accounts.subject
left join {{ ref('int_touched_subjects') }} as persons
    on entries.ledger = persons.ledger and entries.person = persons.subject
left join {{ ref('int_touched_subjects') }} as conductors
    on entries.ledger = conductors.ledger and entries.conductor = conductors.subject
where
    accounts.subject is not null
    or persons.subject is not null
    or conductors.subject is not null
