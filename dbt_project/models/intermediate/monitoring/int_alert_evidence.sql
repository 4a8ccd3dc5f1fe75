-- Every rule's evidence in one shape, made anew for each subject that was touched. An episode is
-- named by its first evidence in the ledger's order, so that a late fact does not rename it.
-- depends_on: {{ ref('int_touched_subjects') }}
{% set rules = ['int_ctr_aggregation', 'int_structuring', 'int_rapid_movement', 'int_fan_in'] %}
with evidence as (
    {% for rule in rules %}
        select
            rule,
            rule_version,
            parameters_hash,
            ledger,
            subject,
            subject_kind,
            currency,
            exponent,
            island,
            seq,
            entry_no,
            amount,
            role,
            day,
            counterparty,
            score_unit
        from {{ ref(rule) }}
        {{ 'union all' if not loop.last }}
    {% endfor %}
),

named as (
    select
        evidence.*,
        min(seq) over (
            partition by rule, rule_version, ledger, subject, currency, island
        ) as first_seq
    from evidence
),

episodes as (
    select
        named.*,
        concat(ledger, '/', {{ as_text('first_seq') }}) as episode
    from named
)

select
    md5(
        concat(
            rule,
            '|',
            subject,
            '|',
            episode,
            case when rule = 'ctr_aggregation' then concat('|', role) else '' end
        )
    ) as candidate_id,
    rule,
    rule_version,
    parameters_hash,
    ledger,
    subject,
    subject_kind,
    episode,
    currency,
    exponent,
    seq,
    entry_no,
    cast(amount as bigint) as amount,
    role,
    day,
    counterparty,
    score_unit
from episodes
