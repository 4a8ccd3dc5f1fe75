select distinct
    ledger,
    seq,
    recorded_at,
    event_type,
    day,
    reference,
    reason,
    approval,
    tree_root
from {{ source('landing', 'periods') }}
