select distinct
    ledger,
    seq,
    recorded_at,
    event_type,
    hold_seq,
    kind,
    channel,
    expires_at,
    cause,
    reason
from {{ source('landing', 'holds') }}
