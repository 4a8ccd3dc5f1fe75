-- One row for each bank line and each ledger entry of a reconciled account, a pair sharing its row.
--   outcome: matched | amount_differs | missing_in_ledger | duplicate_at_bank | missing_at_bank
--            | timing             the ledger has it, the bank's next statements may bring it
--            | awaiting_statement no statement covers its day yet
--            | before_statements  part of the first statement's opening balance
with accounts as (
    select
        statement_account,
        ledger,
        account,
        bank,
        calendar
    from {{ ref('int_statement_accounts') }}
    where purpose in ('fbo', 'operating')
),

covered as (
    select
        statements.statement_account,
        min(statements.statement_date) as first_date,
        max(statements.statement_date) as last_date
    from {{ ref('int_statements') }} as statements
    group by statements.statement_account
),

known_accounts as (
    select
        accounts.statement_account,
        accounts.ledger,
        accounts.account,
        accounts.bank,
        accounts.calendar,
        covered.first_date,
        covered.last_date,
        days.banking_day_no as last_banking_day_no
    from accounts
    left join covered
        on accounts.statement_account = covered.statement_account
    left join {{ ref('int_banking_days') }} as days
        on accounts.calendar = days.calendar and covered.last_date = days.day
),

lines as (
    select
        lines.statement_account,
        lines.statement,
        lines.line_no,
        lines.statement_date,
        lines.side,
        lines.amount,
        lines.currency,
        lines.reference,
        case when lines.side = 'credit' then lines.amount else -lines.amount end as bank_amount,
        pairs.seq as paired_seq,
        pairs.ledger as paired_ledger,
        pairs.entry_no as paired_entry_no,
        pairs.method,
        row_number() over (
            partition by
                lines.statement_account, lines.currency, lines.side, lines.amount, lines.reference
            order by
                case when pairs.seq is null then 1 else 0 end,
                lines.value_date,
                lines.statement_date,
                lines.statement,
                lines.line_no
        ) as same_line_no
    from {{ ref('stg_statement_lines') }} as lines
    inner join {{ ref('int_statements') }} as statements
        on
            lines.statement_account = statements.statement_account
            and lines.statement = statements.statement
            and lines.statement_date = statements.statement_date
    left join {{ ref('int_reconciliation_pairs') }} as pairs
        on
            lines.statement_account = pairs.statement_account
            and lines.statement = pairs.statement
            and lines.line_no = pairs.line_no
    where statements.purpose in ('fbo', 'operating')
),

entries as (
    select
        known_accounts.statement_account,
        entries.ledger,
        entries.seq,
        entries.entry_no,
        entries.bank_amount as ledger_amount,
        entries.currency,
        entries.kind,
        entries.effective_date,
        entries.rail_reference,
        days.banking_day_no
    from {{ ref('int_bank_entries') }} as entries
    inner join known_accounts
        on entries.ledger = known_accounts.ledger and entries.account = known_accounts.account
    left join {{ ref('int_banking_days') }} as days
        on known_accounts.calendar = days.calendar and entries.effective_date = days.day
),

items as (
    select
        coalesce(lines.statement_account, entries.statement_account) as statement_account,
        entries.seq,
        entries.entry_no,
        entries.effective_date,
        entries.ledger_amount,
        entries.kind,
        entries.banking_day_no,
        lines.statement,
        lines.line_no,
        lines.statement_date,
        lines.bank_amount,
        lines.method,
        lines.same_line_no,
        coalesce(lines.currency, entries.currency) as currency,
        coalesce(lines.reference, entries.rail_reference) as reference
    from lines
    full outer join entries
        on
            lines.statement_account = entries.statement_account
            and lines.paired_ledger = entries.ledger
            and lines.paired_seq = entries.seq
            and lines.paired_entry_no = entries.entry_no
),

judged as (
    select
        known_accounts.ledger,
        known_accounts.account,
        known_accounts.bank,
        known_accounts.last_date,
        items.statement_account,
        items.seq,
        items.entry_no,
        items.effective_date,
        coalesce(items.ledger_amount, 0) as ledger_amount,
        items.statement,
        items.line_no,
        items.statement_date,
        coalesce(items.bank_amount, 0) as bank_amount,
        items.method,
        items.currency,
        items.reference,
        case
            when items.method = 'amount_differs' then 'amount_differs'
            when items.method is not null then 'matched'
            when items.seq is null and items.reference is not null and items.same_line_no > 1
                then 'duplicate_at_bank'
            when items.seq is null then 'missing_in_ledger'
            when
                known_accounts.last_date is null
                or items.effective_date > known_accounts.last_date
                then 'awaiting_statement'
            when
                items.effective_date < known_accounts.first_date
                or items.kind = 'opening_balance'
                then 'before_statements'
            when known_accounts.last_banking_day_no - items.banking_day_no < 2 then 'timing'
            else 'missing_at_bank'
        end as outcome
    from items
    inner join known_accounts
        on items.statement_account = known_accounts.statement_account
)

select
    ledger,
    account,
    bank,
    last_date,
    statement_account,
    seq,
    entry_no,
    effective_date,
    ledger_amount,
    statement,
    line_no,
    statement_date,
    bank_amount,
    method,
    currency,
    reference,
    outcome,
    case
        when outcome = 'matched' then 'reconciled'
        when outcome in ('timing', 'awaiting_statement', 'before_statements') then outcome
        else 'break'
    end as reconciliation_status,
    -- A break is named by what it is about, so that it keeps its name while its kind changes.
    case
        when outcome in ('matched', 'awaiting_statement', 'before_statements') then null
        when statement is not null
            then md5(concat('line|', statement, '|', {{ as_text('line_no') }}))
        else
            md5(
                concat(
                    'entry|',
                    ledger,
                    '|',
                    {{ as_text('seq') }},
                    '|',
                    {{ as_text('entry_no') }}
                )
            )
    end as break_id
from judged
