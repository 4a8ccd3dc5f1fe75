select distinct
    stream,
    seq,
    recorded_at,
    statement_account,
    ledger,
    account,
    bank,
    purpose,
    rounded_half_minor_per_entry
from {{ source('landing', 'statement_accounts') }}
