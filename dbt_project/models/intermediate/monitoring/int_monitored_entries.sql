-- Customers' movements as the rules see them: what was reversed is gone (a partial reversal takes
-- its part), reversals themselves and opening balances are no movements.
with reversals as (
    select
        ledger,
        reverses_seq as seq,
        account,
        case when side = 'debit' then 'credit' else 'debit' end as side,
        {{ sum_money('amount') }} as amount
    from {{ ref('entries') }}
    where reverses_seq is not null and account like 'customer:%'
    group by ledger, reverses_seq, account, side
),

candidates as (
    select
        entries.ledger,
        entries.seq,
        entries.entry_no,
        entries.account,
        entries.side,
        entries.amount,
        entries.currency,
        entries.exponent,
        entries.kind,
        entries.channel,
        entries.effective_at,
        entries.effective_date,
        entries.business_date,
        accounts.owner,
        coalesce(reversals.amount, 0) as reversed,
        sum(entries.amount) over (
            partition by entries.ledger, entries.seq, entries.account, entries.side
            order by entries.entry_no
            rows between unbounded preceding and current row
        ) - entries.amount as before
    from {{ ref('entries') }} as entries
    inner join {{ ref('accounts') }} as accounts
        on entries.ledger = accounts.ledger and entries.account = accounts.account
    left join reversals
        on
            entries.ledger = reversals.ledger
            and entries.seq = reversals.seq
            and entries.account = reversals.account
            and entries.side = reversals.side
    where
        entries.account like 'customer:%'
        and entries.reverses_seq is null
        and entries.kind <> 'opening_balance'
),

remaining as (
    select
        ledger,
        seq,
        entry_no,
        account,
        side,
        currency,
        exponent,
        kind,
        channel,
        effective_at,
        effective_date,
        business_date,
        owner,
        cast(amount - least(amount, greatest(0, reversed - before)) as bigint) as amount
    from candidates
    where reversed - before < amount
),

-- Who stands on the other side of a transfer between customers.
sides as (
    select
        ledger,
        seq,
        side,
        min(account) as account,
        min(coalesce(owner, account)) as person
    from remaining
    group by ledger, seq, side
)

select
    remaining.ledger,
    remaining.seq,
    remaining.entry_no,
    remaining.account,
    coalesce(remaining.owner, remaining.account) as person,
    case when remaining.owner is null then 'account' else 'party' end as person_kind,
    case when remaining.side = 'credit' then 'in' else 'out' end as direction,
    remaining.amount,
    remaining.currency,
    remaining.exponent,
    remaining.kind,
    remaining.channel,
    remaining.effective_at,
    remaining.effective_date,
    {{ day_number('remaining.effective_date') }} as day_no,
    {{ microseconds('remaining.effective_at') }} as moment,
    remaining.business_date,
    transactions.conductor,
    coalesce(sides.account, transactions.counterparty) as counterparty,
    coalesce(sides.person = coalesce(remaining.owner, remaining.account), false) as is_own_transfer
from remaining
left join {{ ref('transactions') }} as transactions
    on remaining.ledger = transactions.ledger and remaining.seq = transactions.seq
left join sides
    on
        remaining.ledger = sides.ledger
        and remaining.seq = sides.seq
        and remaining.side <> sides.side
