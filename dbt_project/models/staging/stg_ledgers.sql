select distinct
    ledger,
    seq,
    recorded_at,
    time_zone,
    cut_off,
    calendar,
    chart
from {{ source('landing', 'ledgers') }}
