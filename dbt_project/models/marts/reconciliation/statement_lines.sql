select
    lines.statement,
    lines.statement_account,
    accounts.ledger,
    accounts.account,
    accounts.bank,
    lines.line_no,
    lines.statement_date,
    lines.value_date,
    lines.side,
    lines.amount,
    lines.currency,
    currencies.exponent,
    lines.reference,
    lines.bank_code,
    coalesce(items.reconciliation_status, 'superseded') as reconciliation_status,
    items.break_id,
    lines.seq as last_seq
from {{ ref('stg_statement_lines') }} as lines
left join {{ ref('int_statement_accounts') }} as accounts
    on lines.statement_account = accounts.statement_account
left join {{ ref('int_currencies') }} as currencies
    on accounts.ledger = currencies.ledger and lines.currency = currencies.currency
left join {{ ref('int_reconciliation_items') }} as items
    on
        lines.statement_account = items.statement_account
        and lines.statement = items.statement
        and lines.line_no = items.line_no
