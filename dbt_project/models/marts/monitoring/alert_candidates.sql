-- Made anew for each subject that was touched, as its evidence is.
-- depends_on: {{ ref('int_touched_subjects') }}
with evidence as (
    select found.*
    from {{ ref('int_alert_evidence') }} as found
    {% if is_incremental() %}
        inner join {{ ref('int_touched_subjects') }} as touched
            on found.ledger = touched.ledger and found.subject = touched.subject
    {% endif %}
),

candidates as (
    select
        candidate_id,
        rule,
        rule_version,
        parameters_hash,
        ledger,
        subject,
        subject_kind,
        episode,
        currency,
        exponent,
        score_unit,
        min(day) as window_start,
        max(day) as window_end,
        {{ sum_money('amount') }} as amount,
        {{ sum_money("case when role = 'received' then amount else 0 end") }} as received,
        {{ sum_money("case when role = 'forwarded' then amount else 0 end") }} as forwarded,
        {{ sum_money("case when role = 'from_new_sender' then amount else 0 end") }} as new_value,
        max(amount) as largest,
        max(role) as any_role,
        count(*) as entry_count,
        count(distinct case when role = 'received' then day end) as times,
        count(distinct counterparty) as senders,
        count(distinct case when role = 'from_new_sender' then counterparty end) as new_senders,
        max(seq) as last_seq
    from evidence
    group by
        candidate_id, rule, rule_version, parameters_hash, ledger, subject, subject_kind, episode,
        currency, exponent, score_unit
)

select
    candidate_id,
    rule,
    cast(rule_version as integer) as rule_version,
    parameters_hash,
    ledger,
    subject,
    subject_kind,
    episode,
    window_start,
    window_end,
    case rule
        when 'rapid_movement' then {{ score_ratio('received', 'score_unit') }}
        when 'fan_in' then {{ score_ratio('new_value', 'score_unit') }}
        else {{ score_ratio('amount', 'score_unit') }}
    end as score,
    amount,
    currency,
    exponent,
    entry_count,
    case rule
        when 'ctr_aggregation'
            then concat(
                case when any_role = 'cash_in' then 'Cash in of ' else 'Cash out of ' end,
                {{ money_text('amount') }},
                ' on business day ',
                {{ as_text('window_start') }},
                ' in ',
                {{ as_text('entry_count') }},
                ' entries; the law asks for a report above ',
                {{ money_text('score_unit') }},
                ' per person and day.'
            )
        when 'structuring'
            then concat(
                {{ as_text('entry_count') }},
                ' cash deposits of at most ',
                {{ money_text('score_unit') }},
                ' each, ',
                {{ money_text('amount') }},
                ' together, from ',
                {{ as_text('window_start') }},
                ' to ',
                {{ as_text('window_end') }},
                '; the largest was ',
                {{ money_text('largest') }},
                '.'
            )
        when 'rapid_movement'
            then concat(
                {{ as_text('times') }},
                ' times from ',
                {{ as_text('window_start') }},
                ' to ',
                {{ as_text('window_end') }},
                ' money came in and left again within the hours allowed, the account empty after'
                ' it: ',
                {{ money_text('received') }},
                ' received, ',
                {{ money_text('forwarded') }},
                ' sent on.'
            )
        else concat(
            {{ as_text('senders') }},
            ' senders paid in ',
            {{ money_text('amount') }},
            ' from ',
            {{ as_text('window_start') }},
            ' to ',
            {{ as_text('window_end') }},
            '; ',
            {{ as_text('new_senders') }},
            ' of them had never sent before and brought ',
            {{ money_text('new_value') }},
            '.'
        )
    end as why,
    last_seq
from candidates
