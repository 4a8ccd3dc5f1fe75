"""Any projection is derived from the journal again, while its writer goes on."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from ledger_service.domain.commands import OpenAccount
from ledger_service.domain.period_commands import AttestDay
from ledger_service.engine.projections import PROJECTIONS
from ledger_service.engine.rebuild import Outcome, RebuildError, rebuild
from ledger_service.engine.verify import verify
from ledger_service.engine.writer import LedgerWriter
from tests.integration.engine.conftest import LEDGER, MEETING, by_two, follow, local_writer
from tests.integration.engine.test_verification import tamper
from tests.integration.engine.test_writer import A, B, opened, submit
from tests.ledger_book import (
    accruing,
    capitalizing,
    capturing,
    holding,
    interest_rule,
    posting,
    voiding,
)
from tests.servers import LedgerDatabase

DAMAGE = {
    "accounts": {"account": "update ledger.account set status = 'frozen', gl_code = '9'"},
    "captures": {"capture": "delete from ledger.capture"},
    "holds": {"hold": "update ledger.hold set amounts[1] = 1, state = 'open'"},
    "accruals": {"accrual": "delete from ledger.accrual"},
    "declarations": {"declaration": "update ledger.declaration set name = 'x'"},
    "periods": {"period": "update ledger.period set day = day + 1"},
    "balances": {"balance": "update ledger.balance set debits = debits + 1 where debits > 0"},
    "idempotency": {"idempotency": "delete from ledger.idempotency where seq % 2 = 0"},
    "reversals": {"reversal": "insert into ledger.reversal values ('simulated', 6, 7)"},
    "history": {
        "posting_list": "update ledger.posting_list set amounts[2] = 7",
        "recorded_day": "update ledger.recorded_day set first_seq = first_seq + 1",
        "day_delta": "delete from ledger.day_delta where credits > 0",
        "value_dated_entry": "update ledger.value_dated_entry set amount = amount + 1",
        "transaction": "update ledger.transaction set kind = 'fee' where seq > 8",
        "transaction_bitmap": "update ledger.transaction_bitmap set bits = ~ bits where field = 'kind'",
        "value_dated_transaction": "delete from ledger.value_dated_transaction where seq % 2 = 0",
        "transaction_metadata": "truncate ledger.transaction_metadata",
    },
}


def rebuilt(database: LedgerDatabase, name: str) -> Outcome:
    with psycopg.connect(database.owner_url, autocommit=True) as connection:
        return rebuild(connection, LEDGER, name)


def transfers(first: int, count: int) -> list:
    return [
        posting(
            f"k{number}", (A, 5), (B, -5), metadata={"invoice": f"{number % 3}"},
            effective_at=f"2026-0{1 + number % 3}-02T12:00:00Z",
        )
        for number in range(first, first + count)
    ]  # fmt: skip


async def hold_and_close(writer: LedgerWriter) -> None:
    """Holds in every state, one of them with a leg that no part of it reached."""
    lines = ((A, 1), (A, 50), (B, -51))
    placed = [
        verdict.seq
        for verdict in await submit(writer, *(holding(f"h{n}", *lines) for n in range(4)))
    ]
    await submit(
        writer,
        capturing("c0", placed[0], 10, ends_hold=False),
        capturing("c1", placed[1], 10),
        capturing("c2", placed[2]),
        voiding("v3", placed[3]),
    )
    await submit(writer, AttestDay("2026-02-01", "stm_1", "usr_1"))


async def accrue(database: LedgerDatabase, writer: LedgerWriter) -> None:
    """Interest by a rule of the ledger's own, accrued and capitalized."""
    names = ("expense:interest", "payable:interest")
    await submit(writer, *(OpenAccount(name, "USD", "key_test") for name in names))
    await submit(writer, by_two(database, interest_rule("save", "0.5", since="2026-01-01")))
    done = await submit(
        writer, accruing("a1", "save", B, "2026-06-30"), capitalizing("a2", "save", B)
    )
    assert all(hasattr(verdict, "seq") for verdict in done), done


@pytest.mark.parametrize("name", DAMAGE)
async def test_what_was_damaged_is_put_right_while_its_writer_goes_on(
    ledger_database: LedgerDatabase, postgres, name: str
) -> None:
    assert DAMAGE.keys() == PROJECTIONS.keys()
    assert DAMAGE[name].keys() == {table.name for table in PROJECTIONS[name].tables}
    async with local_writer(ledger_database) as writer:
        await opened(writer)
        await submit(writer, *transfers(0, 20))
        await hold_and_close(writer)
        await accrue(ledger_database, writer)
        await follow(ledger_database)
    assert rebuilt(ledger_database, name).differing == {}
    tamper(postgres.admin_url, ledger_database, *DAMAGE[name].values())
    damaged = {
        finding.table.removeprefix("ledger.")
        for finding in verify(ledger_database.owner_url).findings
    }
    assert DAMAGE[name].keys() <= damaged
    async with local_writer(ledger_database) as writer:
        # It loads what is damaged, and goes on posting while that is put right.
        await submit(writer, OpenAccount("customer:9:wallet", "USD", "key_test"))
        await submit(writer, *transfers(20, 5))
        repair = asyncio.create_task(asyncio.to_thread(rebuilt, ledger_database, name))
        number = 25
        while not repair.done():
            await submit(writer, *transfers(number, 1))
            number += 1
        found = await repair
        assert found.differing.keys() == DAMAGE[name].keys()
        await submit(writer, *transfers(number, 5))
        await follow(ledger_database)
    in_ledgers = [one for one in verify(ledger_database.owner_url).findings if one.ledger]
    assert in_ledgers == []
    assert rebuilt(ledger_database, name).differing == {}


async def test_a_key_whose_hash_is_lost_meets_a_conflict_never_a_second_posting(
    ledger_database: LedgerDatabase, postgres
) -> None:
    async with local_writer(ledger_database) as writer:
        await opened(writer)
        (first, kept) = await submit(writer, *transfers(0, 2))
    tamper(
        postgres.admin_url,
        ledger_database,
        f"delete from ledger.idempotency where seq = {first.seq}",
    )
    rebuilt(ledger_database, "idempotency")
    async with local_writer(ledger_database) as writer:
        again, replayed = await submit(writer, *transfers(0, 2))
        assert (again.code, again.detail["seq"]) == ("idempotency_conflict", first.seq)
        assert (replayed.seq, replayed.replayed) == (kept.seq, True)


@pytest.mark.parametrize("lost", [(6,), (7,), (6, 7)])
async def test_keys_that_meet_in_the_index_are_both_put_right(
    ledger_database: LedgerDatabase, postgres, lost: tuple[int, ...]
) -> None:
    asked = [posting(key, (A, 5), (B, -5)) for key in MEETING[0]]
    async with local_writer(ledger_database) as writer:
        await opened(writer)
        assert [verdict.seq for verdict in await submit(writer, *asked)] == [6, 7]
    tamper(
        postgres.admin_url,
        ledger_database,
        *(f"delete from ledger.idempotency where seq = {seq}" for seq in lost),
    )
    assert rebuilt(ledger_database, "idempotency").differing == {"idempotency": len(lost)}
    assert verify(ledger_database.owner_url, full=True).findings == []
    async with local_writer(ledger_database) as writer:
        again = await submit(writer, *asked)
    for seq, verdict in zip((6, 7), again, strict=True):
        found = verdict.detail["seq"] if seq in lost else verdict.seq
        assert found == seq


async def test_unknown_names_are_named(ledger_database: LedgerDatabase) -> None:
    with psycopg.connect(ledger_database.owner_url, autocommit=True) as connection:
        for ledger, name, code in (
            (LEDGER, "nothing", "unknown_projection"),
            ("nowhere", "balances", "ledger_not_open"),
        ):
            with pytest.raises(RebuildError) as error:
                rebuild(connection, ledger, name)
            assert error.value.code == code
