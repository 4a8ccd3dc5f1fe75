"""`make bench-ledger-aged`: how fast a ledger is that has grown old.

Fills one by the writer itself (in this process, without HTTP) until the index of its keys is larger
than what PostgreSQL keeps in memory; starts an empty one beside it, on a server of its own; and
measures the two by turns, for no machine is the same a quarter of an hour later. Both come from a
checkpoint, after which PostgreSQL writes each page that it changes to its log as a whole: that is
dearest for random keys, and within these minutes all of it is paid. Settings as those of
`tests.bench.ledger` (SECONDS: 15), and TRANSFERS to fill with (20,000,000), ROUNDS of a turn for each (8).
"""

from __future__ import annotations

import asyncio
import statistics
import time

import psycopg

from tests import servers
from tests.bench import filling
from tests.bench.house import LEDGER, House, house, wait_for_writer
from tests.bench.ledger import Bench, number, scratch, write

_SIZES = """
  select pg_database_size(current_database())::float8,
         pg_indexes_size('ledger.idempotency')::float8,
         (select setting::float8 * 8192 from pg_settings where name = 'shared_buffers')
"""


def fill(target: House, count: int, accounts: int) -> dict[str, float]:
    """Fill the ledger; gives what that took and the space it takes."""
    before = _sizes(target)[0]
    began = time.perf_counter()
    asyncio.run(
        filling.carry_out(target.database, LEDGER, filling.transfers(LEDGER, count, accounts))
    )
    took = time.perf_counter() - began
    with psycopg.connect(target.services.owner_url, autocommit=True) as connection:
        connection.execute("vacuum analyze")
    size, keys, buffers = _sizes(target)
    return {
        "filled_per_s": count / took,
        "bytes_per_transfer": (size - before) / count,
        "key_index_over_shared_buffers": keys / buffers,
    }


def _sizes(target: House) -> tuple[float, float, float]:
    with psycopg.connect(target.services.owner_url) as connection:
        found = connection.execute(_SIZES.encode()).fetchone()
    assert found is not None
    return found


def measure(bench: Bench, aged: House, empty: House, accounts: int, rounds: int) -> None:
    """Both by turns, each from a checkpoint on."""
    for each in (empty, aged):
        bench.run(each, 1000, "uniform", accounts=accounts, seconds=2)
        with psycopg.connect(each.postgres.admin_url, autocommit=True) as connection:
            connection.execute("checkpoint")
    per_s = [
        [bench.run(each, 1000, "uniform", accounts=accounts) for each in (empty, aged)]
        for _ in range(rounds)
    ]
    of_empty, of_aged = map(statistics.fmean, zip(*per_s, strict=True))
    bench.say(empty_per_s=of_empty, aged_per_s=of_aged, aged_over_empty=of_aged / of_empty)


def main() -> None:
    """Fill, measure; write the figures."""
    bench = Bench(number("SECONDS", 15))
    accounts, count = number("ACCOUNTS", 10_000), number("TRANSFERS", 20_000_000)
    with scratch() as folder, house(folder / "aged", accounts=accounts) as aged:
        servers.end(aged.services.writer)
        bench.say(**fill(aged, count, accounts))
        aged.services.writer = aged.services.start_writer()
        wait_for_writer(aged.services)
        with house(folder / "empty", accounts=accounts) as empty:
            measure(bench, aged, empty, accounts, number("ROUNDS", 8))
    write("bench-ledger-aged.json", bench)


if __name__ == "__main__":
    main()
