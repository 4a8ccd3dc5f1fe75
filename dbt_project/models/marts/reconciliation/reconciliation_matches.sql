select
    md5(
        concat(
            ledger,
            '|',
            {{ as_text('seq') }},
            '|',
            {{ as_text('entry_no') }},
            '|',
            statement,
            '|',
            {{ as_text('line_no') }}
        )
    ) as match_id,
    ledger,
    account,
    method,
    statement,
    line_no,
    seq,
    entry_no,
    abs(bank_amount) as amount,
    currency,
    statement_date as matched_date,
    seq as last_seq
from {{ ref('int_reconciliation_items') }}
where outcome = 'matched'
