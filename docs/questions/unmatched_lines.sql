-- Which lines of the banks' statements has no entry, and what is known of them?
select
    lines.statement,
    lines.line_no,
    lines.bank,
    lines.statement_date,
    lines.side,
    lines.amount,
    lines.currency,
    lines.reference,
    breaks.kind as break_kind,
    breaks.explanation
from statement_lines as lines
left join reconciliation_breaks as breaks on lines.break_id = breaks.break_id
where lines.ledger = $ledger and lines.reconciliation_status = 'break'
order by lines.statement_date, lines.statement, lines.line_no
