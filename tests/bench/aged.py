"""`make bench-ledger-aged`: how fast a ledger is that has grown old.

Measures an empty ledger, fills it by the writer itself (in this process, without HTTP), and measures
again: by then the index of the keys is larger than what PostgreSQL keeps in memory. Settings as
those of `tests.bench.ledger`, and TRANSFERS to fill with (20,000,000).
"""

from __future__ import annotations

import asyncio
import time

import psycopg

from tests import servers
from tests.bench import filling
from tests.bench.house import LEDGER, House, house, wait_for_writer
from tests.bench.ledger import Bench, number, scratch, write

WARM_S = 10
"""Of load before each measurement. A new ledger is at its fastest in its first seconds, and an old one,
whose memory the filling and a vacuum left, at its slowest."""

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


def main() -> None:
    """Measure, fill, measure; write the figures."""
    bench = Bench(number("SECONDS", 10))
    accounts, count = number("ACCOUNTS", 10_000), number("TRANSFERS", 20_000_000)
    with scratch() as folder, house(folder, accounts=accounts) as target:
        bench.run(target, 1000, "uniform", accounts=accounts, seconds=WARM_S)
        empty = bench.run(target, 1000, "uniform", accounts=accounts)
        servers.end(target.services.writer)
        bench.say(**fill(target, count, accounts))
        target.services.writer = target.services.start_writer()
        wait_for_writer(target.services)
        bench.run(target, 1000, "uniform", accounts=accounts, seconds=WARM_S)
        aged = bench.run(target, 1000, "uniform", accounts=accounts)
        bench.say(empty_per_s=empty, aged_per_s=aged, aged_over_empty=aged / empty)
    write("bench-ledger-aged.json", bench)


if __name__ == "__main__":
    main()
