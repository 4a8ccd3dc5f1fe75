"""How long an as-of question takes: part of `make bench-ledger`, or `python -m tests.bench.asof [ENTRIES]`.

One account with a million entries over 365 days, a tenth of them backdated by up to a year, on a
PostgreSQL of its own. Asked over HTTP (in one process with the API) at random points on both clocks,
mostly in the middle of a day, where single entries must be added.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

from ledger_service.contract.logs import configure
from ledger_service.engine.rebuild import derive
from tests import ledger_events, servers
from tests.ledger_api import serving

LEDGER, DAYS, QUESTIONS = "simulated", 365, 300
ACCOUNT = ledger_events.customer(0)
START = dt.datetime(2026, 7, 2, tzinfo=dt.UTC)
"""After the opening, as `recorded_at` never goes back; else all would lie on one recorded day."""

# Like store_journal, but a million events in seconds: the JSON is written by the database.
_FILL = """
insert into ledger.journal
select %(ledger)s, seq, 'transaction.posted', recorded_at, convert_to(json_build_object(
  'type', 'transaction.posted', 'v', 1, 'ledger', %(ledger)s::text, 'seq', seq,
  'recorded_at', to_char(recorded_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
  'actor', 'key_bench', 'request_id', gen_random_uuid(), 'kind', 'transfer',
  'effective_at', to_char(effective_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
  'effective_date', (effective_at at time zone 'America/New_York')::date,
  'business_date', (effective_at at time zone 'America/New_York')::date,
  'entries', json_build_array(
    json_build_object('account', %(account)s::text, 'side', 'credit', 'amount', amount::text,
                      'currency', 'USD'),
    json_build_object('account', 'customer:' || 1 + seq %% 4 || ':wallet', 'side', 'debit',
                      'amount', amount::text, 'currency', 'USD')),
  'context', json_build_object('channel', 'ach', 'counterparty', 'cp' || seq %% 50000),
  'metadata', json_build_object('source_row', seq::text),
  'idempotency_digest', lpad(to_hex(seq), 64, '0'), 'reverses', null)::text, 'UTF8'), ''
from (
  select seq, recorded_at, 1 + seq %% 9973 as amount,
         recorded_at - case when random() < 0.1 then random() * interval '365 days'
                            else interval '0' end as effective_at
    from (select g as seq, %(start)s + (g - %(first)s) * (%(days)s * interval '1 day') / %(count)s
                   as recorded_at
            from generate_series(%(first)s, %(first)s + %(count)s - 1) as g) as moments) as due
"""


def fill(owner_url: str, count: int) -> int:
    """A ledger with `count` transactions of one account; gives its head."""
    ledger_events.store_journal(owner_url, list(ledger_events.opening(LEDGER, 5)))
    first = 9
    with psycopg.connect(owner_url) as connection:
        at = connection.execute("select min(recorded_at) from ledger.journal").fetchone()
        assert at is not None
        connection.execute(
            _FILL,
            {"ledger": LEDGER, "account": ACCOUNT, "first": first, "count": count,
             "start": START, "days": DAYS},
        )  # fmt: skip
        head = first + count - 1
        connection.execute("update ledger.head set seq = %s", (head,))
        began = time.monotonic()
        derive(connection, LEDGER, head, but="idempotency")
        connection.commit()
        seconds = time.monotonic() - began
        print(f"derived all projections of {count} transactions in {seconds:.1f} s")
        connection.autocommit = True
        connection.execute("vacuum analyze")
    return head


async def ask(database: servers.LedgerDatabase, head: int, count: int) -> list[float]:
    """Milliseconds of each question."""
    chance, taken = random.Random(1), []
    path = f"/v1/ledgers/{LEDGER}/accounts/{ACCOUNT}/balance"
    with pytest.MonkeyPatch.context() as patch:
        async with serving(database, patch) as api:
            for _ in range(count):
                moment = START + dt.timedelta(days=DAYS * chance.random())
                known = START + dt.timedelta(days=DAYS * chance.random())
                asked = {"effective_at": moment.isoformat(), "known_at": known.isoformat()}
                began = time.perf_counter()
                answer = await api.call("auditor", "GET", path, params=asked)
                taken.append((time.perf_counter() - began) * 1000)
                assert answer.status_code == 200, answer.text
    return taken


def measure(folder: Path, count: int = 1_000_000) -> dict[str, float]:
    """Figures of an account with `count` entries; `folder`: for the server."""
    with servers.postgres(folder) as server:
        template = servers.migrated_template(server)
        database = servers.LedgerDatabase(server.create_database("bench", template=template))
        head = fill(database.owner_url, count)
        configure("api", "warning")
        taken = sorted(asyncio.run(ask(database, head, QUESTIONS)))
    return {
        "asof_entries": count,
        "asof_read_ms": round(statistics.median(taken), 1),
        "asof_read_p99_ms": round(taken[int(len(taken) * 0.99)], 1),
    }


def main() -> None:
    """Run as a command."""
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), *map(int, sys.argv[1:]))))


if __name__ == "__main__":
    main()
