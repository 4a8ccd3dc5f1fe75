select
    ledger,
    seq,
    entry_no,
    account,
    side,
    amount,
    currency
from {{ source('landing', 'entries') }}
