{# A hold has something pending exactly as long as it is open, and its parts sum to the whole. #}
{% test ended_holds_are_settled(model) %}
select
    ledger,
    seq,
    state
from {{ model }}
where
    (state = 'open') <> (pending > 0)
    or (state = 'open') <> (ended_seq is null)
    or placed <> captured + released + pending
{% endtest %}
