{{ config(materialized='incremental', unique_key=['ledger', 'seq', 'entry_no']) }}

-- Customers' movements as the rules see them: reversals and opening balances are no movements, and
-- `amount` is what reversals left of an entry (0 where nothing is left). Incremental by `seq`: what
-- a new reversal takes back is written again.
with arrived as (
    select
        ledger,
        seq,
        entry_no,
        account,
        side,
        amount,
        currency,
        exponent,
        kind,
        channel,
        effective_at,
        effective_date,
        business_date,
        reverses_seq
    from {{ ref('entries') }}
    where account like 'customer:%' and {{ new_since(facts=ref('entries')) }}
),

affected as (
    {% if is_incremental() %}
        select *
        from arrived
        union all
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
            entries.reverses_seq
        from {{ ref('entries') }} as entries
        inner join (
            select distinct
                ledger,
                reverses_seq
            from arrived
            where reverses_seq is not null
        ) as newly_reversed
            on
                entries.ledger = newly_reversed.ledger
                and entries.seq = newly_reversed.reverses_seq
        where
            entries.account like 'customer:%'
            and not {{ new_since(seq='entries.seq', ledger='entries.ledger') }}
    {% else %}
        select *
        from arrived
    {% endif %}
),

movements as (
    select *
    from affected
    where reverses_seq is null and kind <> 'opening_balance'
),

reversals as (
    select
        ledger,
        reverses_seq as seq,
        account,
        case when side = 'debit' then 'credit' else 'debit' end as side,
        {{ sum_money('amount') }} as amount,
        max(seq) as last_seq
    from {{ ref('entries') }}
    where reverses_seq is not null and account like 'customer:%'
    group by ledger, reverses_seq, account, side
),

-- A partial reversal takes from the first entry of an account and side, then from the next.
taken_back as (
    select
        movements.ledger,
        movements.seq,
        movements.entry_no,
        reversals.last_seq,
        least(
            movements.amount,
            greatest(
                0,
                reversals.amount + movements.amount - sum({{ wide('movements.amount') }}) over (
                    partition by
                        movements.ledger, movements.seq, movements.account, movements.side
                    order by movements.entry_no
                    rows between unbounded preceding and current row
                )
            )
        ) as amount
    from movements
    inner join reversals
        on
            movements.ledger = reversals.ledger
            and movements.seq = reversals.seq
            and movements.account = reversals.account
            and movements.side = reversals.side
),

owned as (
    select
        movements.*,
        accounts.owner,
        coalesce(accounts.owner, movements.account) as person
    from movements
    inner join {{ ref('accounts') }} as accounts
        on movements.ledger = accounts.ledger and movements.account = accounts.account
),

-- Who stands on the other side of a transfer between customers.
sides as (
    select
        ledger,
        seq,
        side,
        min(account) as account,
        min(person) as person
    from owned
    group by ledger, seq, side
)

select
    owned.ledger,
    owned.seq,
    owned.entry_no,
    owned.account,
    owned.person,
    case when owned.owner is null then 'account' else 'party' end as person_kind,
    case when owned.side = 'credit' then 'in' else 'out' end as direction,
    cast(owned.amount - coalesce(taken_back.amount, 0) as bigint) as amount,
    owned.currency,
    owned.exponent,
    owned.kind,
    owned.channel,
    owned.effective_at,
    owned.effective_date,
    {{ day_number('owned.effective_date') }} as day_no,
    {{ microseconds('owned.effective_at') }} as moment,
    owned.business_date,
    transactions.conductor,
    coalesce(sides.account, transactions.counterparty) as counterparty,
    coalesce(sides.person = owned.person, false) as is_own_transfer,
    greatest(owned.seq, coalesce(taken_back.last_seq, 0)) as last_seq
from owned
inner join {{ ref('transactions') }} as transactions
    on owned.ledger = transactions.ledger and owned.seq = transactions.seq
left join sides
    on
        owned.ledger = sides.ledger
        and owned.seq = sides.seq
        and owned.side <> sides.side
left join taken_back
    on
        owned.ledger = taken_back.ledger
        and owned.seq = taken_back.seq
        and owned.entry_no = taken_back.entry_no
