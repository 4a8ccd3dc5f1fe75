select
    candidate_id,
    ledger,
    seq,
    entry_no,
    amount,
    currency,
    role,
    seq as last_seq
from {{ ref('int_alert_evidence') }}
