with items as (
    select
        items.break_id,
        items.ledger,
        items.account,
        items.bank,
        items.outcome as kind,
        coalesce(items.statement_date, items.effective_date) as opened_date,
        items.last_date,
        items.currency,
        currencies.exponent,
        cast(items.bank_amount as decimal(38, 0)) as bank_amount,
        cast(items.ledger_amount as decimal(38, 0)) as ledger_amount,
        cast(items.bank_amount - items.ledger_amount as decimal(38, 0)) as difference,
        items.statement,
        items.line_no,
        items.seq,
        items.entry_no,
        items.reference
    from {{ ref('int_reconciliation_items') }} as items
    left join {{ ref('int_currencies') }} as currencies
        on items.ledger = currencies.ledger and items.currency = currencies.currency
    where items.break_id is not null
),

stated_spans as (
    select
        statement_account,
        min(statement_date) as opened_date
    from {{ ref('int_stated_balances') }}
    where not agrees
    group by statement_account
),

stated as (
    select
        md5(concat('stated|', balances.statement_account)) as break_id,
        balances.ledger,
        balances.account,
        balances.bank,
        'stated_balance_differs' as kind,
        stated_spans.opened_date,
        balances.statement_date as last_date,
        balances.currency,
        balances.exponent,
        balances.bank_amount,
        balances.ledger_amount,
        balances.difference,
        balances.statement,
        cast(null as integer) as line_no,
        cast(null as bigint) as seq,
        cast(null as integer) as entry_no,
        {{ as_text('null') }} as reference
    from {{ ref('int_stated_balances') }} as balances
    inner join stated_spans
        on balances.statement_account = stated_spans.statement_account
    where balances.age = 1 and not balances.agrees
),

breaks as (
    select * from items
    union all
    select * from stated
),

heads as (
    select
        ledger,
        account,
        max(last_seq) as last_seq
    from {{ ref('account_balances_daily') }}
    group by ledger, account
)

{% set bank_money = money_text('breaks.bank_amount', 'breaks.exponent', 'breaks.currency') %}
{% set ledger_money = money_text('breaks.ledger_amount', 'breaks.exponent', 'breaks.currency') %}
{% set difference_money = money_text('breaks.difference', 'breaks.exponent', 'breaks.currency') %}
select
    breaks.break_id,
    breaks.ledger,
    breaks.account,
    breaks.bank,
    breaks.kind,
    breaks.opened_date,
    breaks.last_date,
    breaks.currency,
    breaks.exponent,
    breaks.bank_amount,
    breaks.ledger_amount,
    breaks.difference,
    breaks.statement,
    breaks.line_no,
    breaks.seq,
    breaks.entry_no,
    breaks.reference,
    case breaks.kind
        when 'missing_in_ledger'
            then concat('The bank states ', {{ bank_money }}, '; no entry of the ledger fits it.')
        when 'missing_at_bank'
            then concat(
                'The ledger holds ',
                {{ ledger_money }},
                '; no line of a statement fits it after two banking days.'
            )
        when 'amount_differs'
            then concat(
                'The bank states ',
                {{ bank_money }},
                ' under this reference, the ledger holds ',
                {{ ledger_money }},
                ': a difference of ',
                {{ difference_money }},
                '.'
            )
        when 'duplicate_at_bank'
            then concat(
                'The bank states ', {{ bank_money }}, ' once more under a reference already stated.'
            )
        when 'timing'
            then concat(
                'The ledger holds ',
                {{ ledger_money }},
                '; the bank''s next statement may bring it.'
            )
        else concat(
            'The source states a balance of ',
            {{ bank_money }},
            ', the ledger has ',
            {{ ledger_money }},
            ': a difference of ',
            {{ difference_money }},
            ', more than rounding explains.'
        )
    end as explanation,
    coalesce(breaks.seq, heads.last_seq, 0) as last_seq
from breaks
left join heads
    on breaks.ledger = heads.ledger and breaks.account = heads.account
