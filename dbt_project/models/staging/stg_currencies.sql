select distinct
    ledger,
    currency,
    exponent
from {{ source('landing', 'currencies') }}
