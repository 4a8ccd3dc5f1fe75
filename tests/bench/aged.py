"""`make bench-ledger-aged`: how fast a ledger is that has grown old.

Measures an empty ledger, fills it by the writer itself (in this process, without HTTP), and measures
again: by then the index of the keys is larger than what PostgreSQL keeps in memory. Settings as
those of `tests.bench.ledger`, and TRANSFERS to fill with (20,000,000).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator

import psycopg

from ledger_service.contract.events import Entry
from ledger_service.domain.commands import PostTransaction, post_transaction
from tests import servers
from tests.bench import filling
from tests.bench.house import LEDGER, House, house, wait_for_writer
from tests.bench.ledger import Bench, number, scratch, write
from tests.bench.load import account

_SIZES = """
  select pg_database_size(current_database())::float8,
         pg_indexes_size('ledger.idempotency')::float8,
         (select setting::float8 * 8192 from pg_settings where name = 'shared_buffers')
"""


def transfers(count: int, accounts: int) -> Iterator[PostTransaction]:
    """Commands as the API makes them."""
    choose = random.Random(0)
    for item in range(count):
        debited, credited = choose.sample(range(accounts), 2)
        amount = str(choose.randint(1, 99_999))
        yield post_transaction(
            LEDGER,
            f"filling-{item}",
            kind="transfer",
            entries=[
                Entry(account(debited), "debit", amount, "USD"),
                Entry(account(credited), "credit", amount, "USD"),
            ],
            actor="bench",
        )


def fill(target: House, count: int, accounts: int) -> dict[str, float]:
    """Fill the ledger; gives what that took and the space it takes."""
    before = _sizes(target)[0]
    began = time.perf_counter()
    asyncio.run(filling.carry_out(target.database, LEDGER, transfers(count, accounts)))
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
        bench.run(target, 1000, "uniform", accounts=accounts, seconds=2)  # warms everything up
        empty = bench.run(target, 1000, "uniform", accounts=accounts)
        servers.end(target.services.writer)
        bench.say(**fill(target, count, accounts))
        target.services.writer = target.services.start_writer()
        wait_for_writer(target.services)
        bench.run(target, 1000, "uniform", accounts=accounts, seconds=2)
        aged = bench.run(target, 1000, "uniform", accounts=accounts)
        bench.say(empty_per_s=empty, aged_per_s=aged, aged_over_empty=aged / empty)
    write("bench-ledger-aged.json", bench)


if __name__ == "__main__":
    main()
