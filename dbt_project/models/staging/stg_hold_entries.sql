select distinct
    ledger,
    seq,
    entry_no,
    account,
    side,
    amount,
    currency
from {{ source('landing', 'hold_entries') }}
