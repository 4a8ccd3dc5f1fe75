"""Two roads to one balance: the marts and the ledger's own, at the same `seq`, to the cent (P7).

The ledger answers from its posting lists in PostgreSQL; the marts came by Kafka, Parquet and dbt.
A ledger that can't be asked is a failed check, not a skipped one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import httpx

from ledger_service.contract import topics
from pipelines.checks.declared import outcome
from pipelines.ledger_api import LedgerApi
from pipelines.publication.snapshot import Outcome

_Problems = list[str]

_BALANCES = """
    with ledger_side as (
        select account, currency, cast(debits as decimal(38, 0)) as debits,
            cast(credits as decimal(38, 0)) as credits
        from read_json($file, format = 'newline_delimited', columns = {
            account: 'VARCHAR', currency: 'VARCHAR', debits: 'VARCHAR', credits: 'VARCHAR'})
    ),
    mart_side as (
        select account, currency, debits, credits
        from marts.account_balances_current where ledger = $ledger
    )
    select coalesce(l.account, m.account), l.debits, l.credits, m.debits, m.credits
    from ledger_side as l full join mart_side as m
        on l.account = m.account and l.currency = m.currency
    where l.debits is distinct from m.debits or l.credits is distinct from m.credits
    order by 1 limit 3
"""
_TRIAL_BALANCE = """
    select gl_code, account_class, custodial, currency, closing_debits, closing_credits
    from marts.trial_balance_daily
    where ledger = $ledger
    qualify row_number() over (
        partition by gl_code, account_class, custodial, currency order by balance_date desc
    ) = 1
"""


def check_two_roads(
    connection: duckdb.DuckDBPyConnection, api: LedgerApi, as_of: Mapping[str, int]
) -> list[Outcome]:
    """Balances, trial balance and open holds of every ledger in `as_of`."""
    ledgers = {name: seq for name, seq in as_of.items() if name not in topics.STREAMS}
    roads = {
        "two_roads_balances": compare_balances,
        "two_roads_trial_balance": compare_trial_balance,
        "two_roads_holds": compare_holds,
    }
    outcomes = []
    for name, compare in roads.items():
        problems = [
            problem
            for ledger, seq in ledgers.items()
            for problem in _guarded(compare, connection, api, ledger, seq)
        ]
        outcomes.append(outcome(name, "; ".join(problems[:3])))
    return outcomes


def _guarded(
    compare: Callable[[duckdb.DuckDBPyConnection, LedgerApi, str, int], _Problems],
    connection: duckdb.DuckDBPyConnection,
    api: LedgerApi,
    ledger: str,
    seq: int,
) -> _Problems:
    try:
        return [f"{ledger} at seq {seq}: {p}" for p in compare(connection, api, ledger, seq)]
    except (httpx.HTTPError, duckdb.Error, KeyError, ValueError) as failure:
        return [f"{ledger} at seq {seq}: error, not compared: {type(failure).__name__}: {failure}"]


def compare_balances(
    connection: duckdb.DuckDBPyConnection, api: LedgerApi, ledger: str, seq: int
) -> _Problems:
    """Accounts whose debits or credits differ, the first three in words."""
    with tempfile.TemporaryDirectory(prefix="tallystick-") as folder:
        file = Path(folder) / "balances.ndjson"
        api.save_balances(ledger, seq, file)
        rows = connection.execute(_BALANCES, {"file": str(file), "ledger": ledger}).fetchall()
    return [
        f"{account}: ledger {debits}/{credits}, mart {mart_debits}/{mart_credits} (debits/credits)"
        for account, debits, credits, mart_debits, mart_credits in rows  # noqa: A001 - the ledger's word
    ]


def compare_trial_balance(
    connection: duckdb.DuckDBPyConnection, api: LedgerApi, ledger: str, seq: int
) -> _Problems:
    """Lines of the general ledger that differ; a line of zeros is as good as none."""
    theirs = {
        (line["gl_code"], line["account_class"], line["custodial"], line["currency"]): (
            int(line["debits"]),
            int(line["credits"]),
        )
        for line in api.trial_balance(ledger, seq)
    }
    rows = connection.execute(_TRIAL_BALANCE, {"ledger": ledger}).fetchall()
    ours = {tuple(row[:4]): (int(row[4]), int(row[5])) for row in rows}
    return [
        f"{key[0]} {key[3]}: ledger {theirs.get(key)}, mart {ours.get(key)}"
        for key in sorted(theirs.keys() | ours.keys())
        if theirs.get(key, (0, 0)) != ours.get(key, (0, 0))
    ][:3]


def compare_holds(
    connection: duckdb.DuckDBPyConnection, api: LedgerApi, ledger: str, seq: int
) -> _Problems:
    """Holds of which something else is pending; what accounts have pending is the sum of these.

    The ledger tells holds as they stand now. One that changed after `seq` had at least as much left
    at `seq`, and only one that changed since may have ended; all others are as they were.
    """
    rows = connection.execute(
        "select seq, pending from marts.holds where ledger = $1 and state = 'open'", [ledger]
    ).fetchall()
    ours = {int(hold): int(pending) for hold, pending in rows}
    open_now = {hold["seq"]: hold for hold in _open_holds(api, ledger) if hold["seq"] <= seq}
    problems = []
    for number, hold in sorted(open_now.items()):
        left, pending = int(hold["left"]), ours.get(number, 0)
        if pending < left or (pending > left and hold["changed_by"] <= seq):
            problems.append(f"hold {number}: ledger {left}, mart {pending}")
    ended = sorted(ours.keys() - open_now.keys(), reverse=True)
    problems += _ended_too_early(api, ledger, seq, ended)
    return problems[:3]


def _open_holds(api: LedgerApi, ledger: str) -> Iterator[dict[str, Any]]:
    before = None
    while True:
        page, before = api.holds(ledger, state="open", before=before)
        yield from page
        if before is None:
            return


def _ended_too_early(api: LedgerApi, ledger: str, seq: int, ended: list[int]) -> _Problems:
    """Of holds that are open in the mart and not in the ledger: those that had ended by `seq`."""
    problems = []
    waiting = list(ended)
    while waiting:
        page, _ = api.holds(ledger, before=waiting[0] + 1)
        changed = {hold["seq"]: hold["changed_by"] for hold in page}
        lowest = min(changed, default=0)
        looked_at = [number for number in waiting if number >= lowest]
        problems += [
            f"hold {number}: open in the mart alone"
            for number in looked_at
            if changed.get(number, 0) <= seq
        ]
        waiting = [number for number in waiting if number < lowest]
    return problems
