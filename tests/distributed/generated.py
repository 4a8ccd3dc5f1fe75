"""A history of any size, made by SQL: transfers, cash, fees, what banks state, backdated and reversed.

The same number of events gives the same rows, typed as they land.
"""

from __future__ import annotations

import duckdb

LEDGER = "generated"
DAYS = 110
TABLES = (
    "ledgers", "accounts", "transactions", "entries", "statement_accounts", "statements",
    "statement_lines",
)  # fmt: skip


def generate(connection: duckdb.DuckDBPyConnection, events: int, pieces: int) -> None:
    """Make tables `generated.TABLE`, with the columns of the typed landing that are not NULL and
    `piece`, from 0: statements are behind the journal they are about by a good part of one.
    """
    customers = max(10, events // 100)
    first = 4 + customers
    connection.execute("create schema if not exists generated")
    connection.execute(f"""
    create table generated.ledgers as
    select '{LEDGER}' as ledger, 1 as seq, timestamp '2026-01-01' as recorded_at, ['USD'] as currencies,
        'UTC' as time_zone, '17:00' as cut_off, 'us_federal_reserve' as calendar,
        'us_fintech_fbo/1' as chart, 0 as piece;

    create table generated.accounts as
    select '{LEDGER}' as ledger, 2 + n as seq, timestamp '2026-01-01' as recorded_at,
        'account.opened' as event_type, 'USD' as currency, 'open' as status,
        case n when 0 then 'bank:fbo' when 1 then 'income:fees'
            else 'customer:' || (n - 2) || ':wallet' end as account,
        case n when 0 then 'asset' when 1 then 'income' else 'liability' end as account_class,
        case n when 0 then 'debit' else 'credit' end as normal_side,
        n <> 1 as custodial,
        case n when 0 then '1010' when 1 then '4010' else '2010' end as gl_code,
        case when n > 1 and n % 3 > 0 then 'g' || ((n - 2) // 2) end as owner,
        0 as piece
    from range(2 + {customers}) as numbers(n);

    create table generated.drawn as
    select
        n, {first} + n as seq,
        case when n >= 50 and n % 50 = 0 then 'reversal'
            when hash(n, 1) % 100 < 45 then 'transfer'
            when hash(n, 1) % 100 < 70 then 'ach_credit'
            when hash(n, 1) % 100 < 85 then 'ach_debit'
            when hash(n, 1) % 100 < 95 then 'cash_deposit'
            else 'fee' end as kind,
        hash(n, 2) % {customers} as customer,
        (hash(n, 2) % {customers} + 1 + hash(n, 3) % ({customers} - 1)) % {customers} as other,
        case when hash(n, 1) % 100 between 85 and 94 then 250000 + hash(n, 4) % 800000
            else 1 + hash(n, 4) % 300000 end as amount,
        date '2026-03-02' + cast(n * {DAYS} // {events} as integer)
            - case when hash(n, 5) % 10 = 0 then cast(hash(n, 6) % 60 as integer) else 0 end as day,
        cast(n * {pieces} // {events} as integer) as piece
    from range({events}) as numbers(n);

    create table generated.entries as
    with sides as (
        select *,
            case when kind in ('transfer', 'ach_debit', 'fee') then 'customer:' || customer || ':wallet'
                else 'bank:fbo' end as debit,
            case kind when 'transfer' then 'customer:' || other || ':wallet'
                when 'ach_debit' then 'bank:fbo' when 'fee' then 'income:fees'
                else 'customer:' || customer || ':wallet' end as credit
        from generated.drawn
    ),
    -- Every fiftieth takes back what stands twenty-five before it, wholly or in half.
    posted as (
        select seq, piece, debit, credit, amount from sides where kind <> 'reversal'
        union all
        select taking.seq, taking.piece, taken.credit, taken.debit,
            case when taking.n % 100 = 0 then (taken.amount + 1) // 2 else taken.amount end
        from sides as taking inner join sides as taken on taken.n = taking.n - 25
        where taking.kind = 'reversal'
    )
    select '{LEDGER}' as ledger, seq, 0 as entry_no, debit as account, 'debit' as side, amount,
        'USD' as currency, piece from posted
    union all
    select '{LEDGER}', seq, 1, credit, 'credit', amount, 'USD', piece from posted;

    create table generated.transactions as
    select '{LEDGER}' as ledger, seq, timestamp '2026-01-01' + to_seconds(n) as recorded_at,
        day + to_hours(cast(hash(n, 7) % 24 as integer)) as effective_at, day as effective_date,
        day as business_date, kind,
        case when kind like 'ach%' then 'ach' when kind like 'cash%' then 'cash' else 'internal' end
            as channel,
        case when kind = 'ach_credit' then 'x' || hash(n, 8) % 40 end as counterparty,
        case when kind = 'cash_deposit' and n % 2 = 0 then 'g' || hash(n, 8) % 5 end as conductor,
        case when hash(n, 9) % 5 > 0 and (kind like 'ach%' or kind like 'cash%') then 'g' || seq end
            as rail_reference,
        case when kind = 'reversal' then seq - 25 end as reverses_seq,
        false as imposed, 'key_1' as actor, 2 as entry_count, piece
    from generated.drawn;

    create table generated.statement_accounts as
    select 'statements' as stream, 1 as seq, timestamp '2026-01-01' as recorded_at,
        'generated_fbo' as statement_account, '{LEDGER}' as ledger, 'bank:fbo' as account,
        'first_bank' as bank, 'fbo' as purpose, 0 as rounded_half_minor_per_entry, 0 as piece;

    -- Of what was posted the bank forgets some, misstates some, and gives not every reference.
    create table generated.statement_lines as
    select 'statements' as stream, timestamp '2026-01-01' as recorded_at,
        'g_' || effective_date as statement, 'generated_fbo' as statement_account,
        row_number() over (partition by effective_date order by entries.seq) as line_no,
        effective_date as statement_date, effective_date as value_date,
        case side when 'debit' then 'credit' else 'debit' end as side,
        amount + case when hash(entries.seq, 10) % 100 > 97 then 1 else 0 end as amount,
        'USD' as currency, case when hash(entries.seq, 11) % 10 > 1 then rail_reference end as reference,
        '165' as bank_code,
        2 + row_number() over (order by effective_date, entries.seq)
            + dense_rank() over (order by effective_date) as seq,
        cast(greatest(0, (effective_date - date '2026-03-02')) * {pieces} // ({DAYS} + 10) as integer)
            as piece
    from generated.entries inner join generated.transactions using (seq)
    where account = 'bank:fbo' and hash(entries.seq, 10) % 100 > 1;

    create table generated.statements as
    select 'statements' as stream, min(seq) - 1 as seq, timestamp '2026-01-01' as recorded_at, statement,
        'generated_fbo' as statement_account, 'first_bank' as bank, statement_date, 'USD' as currency,
        cast(sum(sum(case side when 'credit' then amount else -amount end)) over (
            order by statement_date) as bigint) as closing_balance,
        count(*) as line_count, 'bai2' as format, min(piece) as piece
    from generated.statement_lines group by statement, statement_date;
    """)
