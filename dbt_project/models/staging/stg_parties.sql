select distinct
    stream,
    seq,
    recorded_at,
    party,
    kind,
    country,
    risk_tier,
    version,
    erased
from {{ source('landing', 'parties') }}
