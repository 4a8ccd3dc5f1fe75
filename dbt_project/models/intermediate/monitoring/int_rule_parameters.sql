-- Parameters as each ledger has them: its own set where there is one, else everybody's (`*`).
with hashed as (
    select
        rule,
        version,
        ledger,
        currency,
        md5({{ joined_texts("concat(name, '=', " ~ as_text('value') ~ ")") }})
            as parameters_hash
    from {{ ref('rule_parameters') }}
    group by rule, version, ledger, currency
),

own_sets as (
    select distinct
        rule,
        currency,
        ledger
    from {{ ref('rule_parameters') }}
    where ledger <> '*'
)

select
    parameters.rule,
    parameters.version,
    ledgers.ledger,
    parameters.currency,
    parameters.name,
    parameters.value,
    parameters.valid_from,
    parameters.valid_to,
    hashed.parameters_hash
from {{ ref('stg_ledgers') }} as ledgers
cross join {{ ref('rule_parameters') }} as parameters
inner join hashed
    on
        parameters.rule = hashed.rule
        and parameters.version = hashed.version
        and parameters.ledger = hashed.ledger
        and parameters.currency = hashed.currency
left join own_sets
    on
        parameters.rule = own_sets.rule
        and parameters.currency = own_sets.currency
        and ledgers.ledger = own_sets.ledger
where
    parameters.ledger = ledgers.ledger
    or (parameters.ledger = '*' and own_sets.rule is null)
