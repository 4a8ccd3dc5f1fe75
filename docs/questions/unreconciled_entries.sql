-- Which entries does no bank confirm, and why?
select
    entries.seq,
    entries.entry_no,
    entries.account,
    entries.effective_date,
    entries.side,
    entries.amount,
    entries.currency,
    entries.rail_reference,
    entries.reconciliation_status,
    breaks.kind as break_kind,
    breaks.explanation
from entries
left join reconciliation_breaks as breaks on entries.break_id = breaks.break_id
where
    entries.ledger = $ledger
    and entries.reconciliation_status in ('break', 'timing', 'awaiting_statement')
order by entries.seq, entries.entry_no
