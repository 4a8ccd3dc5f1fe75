select distinct
    stream,
    seq,
    recorded_at,
    statement,
    statement_account,
    line_no,
    statement_date,
    value_date,
    side,
    amount,
    currency,
    reference,
    bank_code
from {{ source('landing', 'statement_lines') }}
