"""SQL over the events of the journal, and over the posting lists that follow it."""

from __future__ import annotations


def account_of(name: str, ledger: str = "$1") -> str:
    """A lateral subquery that gives the `number` of the account which the expression `name` names.

    The newest events are past what PostgreSQL's statistics know: it takes them for one row, and would
    look through all accounts for each. `offset 0` keeps it to the accounts' index.
    """
    return (
        f"lateral (select number from ledger.account where ledger = {ledger} "
        f"and account = {name} offset 0) as a"
    )


def entries(past: str, until: str = "", ledger: str = "$1") -> str:
    """A select of the entries of events past `past` up to `until`; left out: to the last one.

    Rows of seq, entry_no, number of the account (null: there is none), signed amount and effective
    date. It decodes every event, so it is for the journal's tail, which the history does not hold yet.
    It has an end in any case: a planner takes what has none for a third of the journal, and reads it
    all.
    """
    until = until or f"(select max(seq) from ledger.journal where ledger = {ledger})"
    return f"""
      select j.seq, (e.place - 1)::smallint as entry_no, a.number,
             (case e.entry ->> 'side' when 'debit' then 1 else -1 end
               * (e.entry ->> 'amount')::numeric)::bigint as amount,
             (j.event ->> 'effective_date')::date as effective_date
        from (select seq, convert_from(bytes, 'UTF8')::jsonb as event from ledger.journal
               where ledger = {ledger} and seq > {past} and seq <= {until}
                 and event_type = 'transaction.posted') as j
             cross join jsonb_array_elements(j.event -> 'entries')
               with ordinality as e (entry, place)
             left join {account_of("e.entry ->> 'account'", ledger)} on true
    """


def listed(accounts: str, first: str, last: str, ledger: str = "$1") -> str:
    """A select of the entries of some accounts with `seq` from `first` to `last`, from posting lists.

    `accounts`: a source of their numbers. A row of lists holds the entries of one step, so the row
    around `last` may hold some on either side: it is the first that ends there or later.
    """
    return f"""
      select p.number, u.seq, u.entry_no, u.amount, u.effective_date
        from {accounts} as moved (number)
             join ledger.posting_list p on p.ledger = {ledger} and p.number = moved.number
              and p.last_seq >= {first} and p.last_seq <= coalesce(
                (select min(l.last_seq) from ledger.posting_list l
                  where l.ledger = {ledger} and l.number = moved.number
                    and l.last_seq >= {last}), {last})
             cross join lateral unnest(p.seqs, p.entry_nos, p.amounts, p.effective_dates)
               as u (seq, entry_no, amount, effective_date)
       where {first} <= {last} and u.seq between {first} and {last}
    """


def same_digest(one: str, other: str) -> str:
    """That two rows are of one idempotency key, in the way in which the index of keys finds it."""
    return (
        f"substr({one}.digest, 27) = substr({other}.digest, 27) and {one}.digest = {other}.digest"
    )
