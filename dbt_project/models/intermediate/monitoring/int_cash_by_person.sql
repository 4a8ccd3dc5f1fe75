-- Cash counts for whoever handed it over or took it, and for whom it was done.
with persons as (
    select
        ledger,
        seq,
        entry_no,
        person,
        person_kind
    from {{ ref('int_monitored_entries') }}
    where channel = 'cash' and amount > 0
    union distinct
    select
        ledger,
        seq,
        entry_no,
        conductor as person,
        'party' as person_kind
    from {{ ref('int_monitored_entries') }}
    where channel = 'cash' and amount > 0 and conductor is not null
)

select
    persons.ledger,
    persons.person,
    persons.person_kind,
    entries.direction,
    entries.seq,
    entries.entry_no,
    entries.amount,
    entries.currency,
    entries.exponent,
    entries.day_no,
    entries.effective_date,
    entries.business_date
from persons
inner join {{ ref('int_monitored_entries') }} as entries
    on
        persons.ledger = entries.ledger
        and persons.seq = entries.seq
        and persons.entry_no = entries.entry_no
