select distinct
    ledger,
    seq,
    recorded_at,
    event_type,
    account,
    currency,
    account_class,
    normal_side,
    custodial,
    gl_code,
    owner,
    floor,
    ceiling,
    status,
    reason
from {{ source('landing', 'accounts') }}
