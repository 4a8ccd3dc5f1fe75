-- The general marts of tests/monitoring_house.py, from three raw tables.
create table accounts as
select 'simulated' as ledger, account, 'USD' as currency, 2 as exponent, account_class, normal_side, custodial, gl_code,
       owner, 'open' as status, timestamp '2026-07-01 12:00:00' as opened_at, seq as opened_seq, seq as last_seq
  from raw_accounts;
create table transactions as
select 'simulated' as ledger, t.seq, t.kind, t.channel, t.effective_at, t.day as effective_date, t.day as business_date,
       t.effective_at + interval 1 hour as recorded_at, t.day as recorded_date, t.reference as rail_reference, t.counterparty,
       'US' as counterparty_country, null::varchar as conductor, t.reverses::bigint as reverses_seq,
       (select min(r.seq) from raw_transactions r where r.reverses::bigint = t.seq) as reversed_by_seq,
       false as imposed, null::varchar as approval, 'key_loader' as actor, t.entry_count, t.seq as last_seq
  from raw_transactions t;
create table entries as
select 'simulated' as ledger, e.seq, e.entry_no, e.account, a.account_class, a.custodial, e.side, e.amount,
       (case when e.side = a.normal_side then e.amount else -e.amount end)::bigint as signed_amount, 'USD' as currency, 2 as exponent,
       t.kind, t.channel, t.effective_at, t.effective_date, t.business_date, t.recorded_at, t.reverses_seq, t.rail_reference,
       case when e.account = 'bank:fbo' then 'matched' end as reconciliation_status,
       case when e.account = 'bank:fbo' and t.rail_reference = 'PAY-40-2' then 'brk_amount' end as break_id, e.seq as last_seq
  from raw_entries e join transactions t using (seq) join raw_accounts a using (account);
create table daily as
select ledger, account, currency, exponent, effective_date as balance_date,
       sum(case when side = 'debit' then amount else 0 end)::decimal(38,0) as debits,
       sum(case when side = 'credit' then amount else 0 end)::decimal(38,0) as credits,
       sum(signed_amount)::decimal(38,0) as moved, count(*)::integer as entry_count, max(seq) as last_seq
  from entries group by all;
create table account_balances_daily as
select ledger, account, currency, exponent, balance_date, debits, credits,
       (sum(moved) over (partition by account order by balance_date))::decimal(38,0) as balance, entry_count, last_seq
  from daily;
create table account_balances_current as
select a.ledger, a.account, a.currency, a.exponent, a.account_class, a.normal_side, a.custodial, a.gl_code, a.owner,
       coalesce(sum(d.debits), 0)::decimal(38,0) as debits, coalesce(sum(d.credits), 0)::decimal(38,0) as credits,
       coalesce(sum(d.moved), 0)::decimal(38,0) as balance, coalesce(sum(d.entry_count), 0)::integer as entry_count,
       max(d.balance_date) as last_effective_date, max(coalesce(d.last_seq, a.last_seq)) as last_seq
  from accounts a left join daily d on d.account = a.account group by all;
create table trial_balance_daily as
with days as (select distinct balance_date from daily),
moved as (
  select d.balance_date, a.gl_code, a.account_class, a.custodial, sum(d.debits) as debits, sum(d.credits) as credits, max(d.last_seq) as last_seq
    from daily d join accounts a on a.account = d.account group by all),
grid as (select * from days cross join (select distinct gl_code, account_class, custodial from accounts))
select 'simulated' as ledger, g.balance_date, g.gl_code, g.account_class, g.custodial, 'USD' as currency, 2 as exponent,
       coalesce(m.debits, 0)::decimal(38,0) as debits, coalesce(m.credits, 0)::decimal(38,0) as credits,
       (sum(coalesce(m.debits, 0)) over w)::decimal(38,0) as closing_debits,
       (sum(coalesce(m.credits, 0)) over w)::decimal(38,0) as closing_credits, coalesce(m.last_seq, 0) as last_seq
  from grid g left join moved m on m.balance_date = g.balance_date and m.gl_code = g.gl_code
window w as (partition by g.gl_code order by g.balance_date);
create table statement_lines as
select 'stm_' || t.effective_date as statement, 'sta_fbo' as statement_account, e.ledger, e.account, 'partner' as bank,
       row_number() over (partition by t.effective_date order by e.seq)::integer as line_no, t.effective_date as statement_date,
       t.effective_date as value_date, case e.side when 'debit' then 'credit' else 'debit' end as side,
       case when t.rail_reference = 'PAY-40-2' then e.amount + 4500 else e.amount end as amount, e.currency, 2 as exponent,
       t.rail_reference as reference, '165' as bank_code, 'matched' as reconciliation_status, null::varchar as break_id, e.seq as last_seq
  from entries e join transactions t using (seq) where e.account = 'bank:fbo';
create table reconciliation_breaks as
select 'brk_amount' as break_id, 'simulated' as ledger, 'bank:fbo' as account, 'partner' as bank, 'amount_differs' as kind,
       l.statement_date as opened_date, (select max(day) from raw_transactions) as last_date, 'USD' as currency, 2 as exponent,
       l.amount::decimal(38,0) as bank_amount, (l.amount - 4500)::decimal(38,0) as ledger_amount, 4500::decimal(38,0) as difference,
       l.statement, l.line_no, l.last_seq as seq, 0 as entry_no, l.reference, 'The bank states 45.00 more than the ledger. CANARY' as explanation, l.last_seq
  from statement_lines l where l.reference = 'PAY-40-2'
union all
select 'brk_missing', 'simulated', 'bank:fbo', 'partner', 'missing_in_ledger', date '2026-08-13', (select max(day) from raw_transactions), 'USD', 2,
       -3000, null, -3000, 'stm_2026-08-13', 99, null, null, 'FEE-8', 'A bank fee without an entry in the ledger.', 1;
insert into statement_lines
select 'stm_2026-08-13', 'sta_fbo', 'simulated', 'bank:fbo', 'partner', 99, date '2026-08-13', date '2026-08-13', 'debit', 3000, 'USD', 2,
       'FEE-8', '698', 'break', 'brk_missing', 1;
create table reconciliation_days as
with closing as (
  select t.balance_date as day,
         (sum(case when gl_code = '1010' then closing_debits - closing_credits end))::decimal(38,0) as cash,
         (sum(case when gl_code = '2010' then closing_credits - closing_debits end))::decimal(38,0) as customers,
         (sum(case when gl_code = '2110' then closing_credits - closing_debits end))::decimal(38,0) as in_transit
    from trial_balance_daily t group by t.balance_date),
off as (
  select c.*, coalesce((select sum(difference) from reconciliation_breaks b where b.opened_date <= c.day), 0)::decimal(38,0) as difference,
         (select count(*) from reconciliation_breaks b where b.opened_date <= c.day)::integer as open_breaks
    from closing c)
select 'simulated' as ledger, 'bank:fbo' as account, 'partner' as bank, 'sta_fbo' as statement_account, day as statement_date, 'USD' as currency,
       2 as exponent, (cash + difference)::decimal(38,0) as bank_closing, cash as ledger_closing, customers, in_transit,
       difference as difference_bank_ledger, (cash - customers - in_transit)::decimal(38,0) as difference_ledger_customers, open_breaks,
       difference as explained_difference, case when difference = 0 then 'reconciled' else 'explained' end as status, 1 as last_seq
  from off;
create table build as select 'simulated' as ledger_or_stream, 1 as as_of_seq, now()::timestamp as built_at, '1.11' as dbt_version, '0.1.0' as code_version
