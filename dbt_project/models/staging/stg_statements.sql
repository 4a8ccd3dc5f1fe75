select distinct
    stream,
    seq,
    recorded_at,
    statement,
    statement_account,
    bank,
    statement_date,
    currency,
    opening_balance,
    closing_balance,
    line_count,
    format
from {{ source('landing', 'statements') }}
