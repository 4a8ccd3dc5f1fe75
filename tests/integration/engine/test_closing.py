"""A period is closed on books that agree with themselves, and whoever posts meanwhile stays out of it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import random
from collections.abc import AsyncIterator

import psycopg
import pytest

from ledger_service.contract.events import (
    AccountOpened,
    JournalEvent,
    PeriodClosed,
    TransactionPosted,
    decode_journal,
)
from ledger_service.domain.commands import OpenAccount
from ledger_service.domain.period_commands import ClosePeriod
from ledger_service.engine import projector
from ledger_service.engine.protocol import Committed, Refused
from ledger_service.engine.verify import verify
from ledger_service.engine.writer import LedgerWriter
from tests.integration.engine.conftest import local_writer
from tests.integration.engine.test_projector import caught_up, following
from tests.integration.engine.test_verification import tamper
from tests.integration.engine.test_writer import A, B, opened, submit
from tests.ledger_book import posting
from tests.servers import LedgerDatabase, Postgres

CHECKS = [
    "sequence_gapless",
    "tree_root_equals_head",
    "debits_equal_credits",
    "day_sums_equal_balances",
    "custodial_money_covered",
]


@contextlib.asynccontextmanager
async def writing(database: LedgerDatabase) -> AsyncIterator[LedgerWriter]:
    """A writer with its projector, as the service runs them; accounts A, B and the FBO account."""
    async with local_writer(database) as writer, following(database) as follower:
        writer._on_commit = follower.take
        await opened(writer)
        await submit(writer, OpenAccount("bank:fbo", "USD", "key_test"))
        yield writer


def journal(database: LedgerDatabase) -> list[JournalEvent]:
    with psycopg.connect(database.owner_url) as connection:
        rows = connection.execute("select bytes from ledger.journal order by seq").fetchall()
    return [decode_journal(row[0]) for row in rows]


def on(day: str, key: str, debit: str, credit: str, amount: int):
    return posting(key, (debit, amount), (credit, -amount), effective_at=f"{day}T12:00:00Z")


_OF_B = f"number = (select number from ledger.account where account = '{B}')"
TAMPERED = {
    "debits_equal_credits": "update ledger.day_delta set effective_date = '2026-02-03' "
    f"where {_OF_B} and effective_date = '2026-02-02'",
    "day_sums_equal_balances": "update ledger.day_delta set debits = debits + 1, "
    f"credits = credits + 1 where {_OF_B} and effective_date = '2026-02-02'",
    "tree_root_equals_head": "update ledger.journal set leaf_hash = sha256(leaf_hash) where seq = 6",
}
MENDED = {
    "debits_equal_credits": "update ledger.day_delta set effective_date = '2026-02-02' "
    f"where {_OF_B} and effective_date = '2026-02-03'",
    "day_sums_equal_balances": "update ledger.day_delta set debits = debits - 1, "
    f"credits = credits - 1 where {_OF_B} and effective_date = '2026-02-02'",
    "tree_root_equals_head": "update ledger.journal "
    "set leaf_hash = sha256('\\x00'::bytea || bytes) where seq = 6",
}


async def test_what_contradicts_itself_is_not_closed_and_writing_goes_on(
    ledger_database: LedgerDatabase, postgres: Postgres
) -> None:
    async with writing(ledger_database) as writer:
        await submit(writer, on("2026-02-02", "in", "bank:fbo", A, 10))
        await submit(writer, on("2026-02-02", "move", A, B, 4), on("2026-02-05", "on", A, B, 1))
        close = ClosePeriod("2026-02-04", "usr_1")
        for check, change in TAMPERED.items():
            await caught_up(ledger_database)
            tamper(postgres.admin_url, ledger_database, change)
            [found] = await submit(writer, close)
            assert isinstance(found, Refused), (check, found)
            assert (found.code, found.detail["check"]) == ("closing_check_failed", check)
            assert "tally verify" in found.detail["message"]
            [posted] = await submit(writer, on("2026-02-03", f"past {check}", A, B, 1))
            assert isinstance(posted, Committed), "nothing was closed"
            tamper(postgres.admin_url, ledger_database, MENDED[check])
        [found] = await submit(writer, close)
        assert isinstance(found, Committed)
        closed = decode_journal(found.event_bytes)
        assert isinstance(closed, PeriodClosed)
        assert closed.checks == CHECKS
        assert {line.gl_code: (line.debits, line.credits) for line in closed.trial_balance} == {
            "1010": ("10", "0"),
            "1310": ("0", "0"),
            "2010": ("7", "17"),
        }
        # a hole in the sequence since then
        await submit(writer, *(on("2026-02-05", f"later {n}", A, B, 1) for n in range(3)))
        hole = f"delete from ledger.journal where seq = {closed.seq + 2}"
        tamper(postgres.admin_url, ledger_database, hole)
        [again] = await submit(writer, ClosePeriod("2026-02-05", "usr_1"))
        assert isinstance(again, Refused)
        assert again.detail["check"] == "sequence_gapless"


async def test_customers_money_that_is_not_covered_is_stated_and_closed(
    ledger_database: LedgerDatabase,
) -> None:
    async with writing(ledger_database) as writer:
        await submit(writer, OpenAccount("receivable:returns", "USD", "key_test"))
        await submit(writer, on("2026-02-02", "in", "bank:fbo", A, 10))
        await submit(writer, on("2026-02-02", "return", "receivable:returns", "bank:fbo", 4))
        [found] = await submit(writer, ClosePeriod("2026-02-04", "usr_1"))
        closed = decode_journal(found.event_bytes)
        assert isinstance(closed, PeriodClosed)
        assert closed.checks == CHECKS[:-1]


async def test_a_history_that_is_behind_is_waited_for_and_then_named(
    ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "WAIT_S", 0.1)
    async with local_writer(ledger_database) as writer:  # nobody follows it
        await opened(writer)
        [found] = await submit(writer, ClosePeriod("2026-02-04", "usr_1"))
        assert (found.code, found.detail["retry_after"]) == ("projection_behind", 1)
        [posted] = await submit(writer, on("2026-02-02", "k", A, B, 1))
        assert isinstance(posted, Committed)


async def test_no_entry_ever_counts_in_a_period_that_was_closed_before_it(
    ledger_database: LedgerDatabase,
) -> None:
    """Days are closed one after the other while others post into them (P9)."""
    chance = random.Random(1)
    days = [(dt.date(2026, 2, 1) + dt.timedelta(days=n)).isoformat() for n in range(12)]
    refused: set[str] = set()

    async def post(writer: LedgerWriter, name: str) -> None:
        for number in range(60):
            size = chance.choice((1, 5, 40))
            found = await submit(
                writer,
                *(
                    on(chance.choice(days), f"{name} {number} {n}", *chance.sample((A, B), 2), 1)
                    for n in range(size)
                ),
            )
            refused.update(one.code for one in found if isinstance(one, Refused))

    async def close(writer: LedgerWriter) -> None:
        for day in days[:-1]:
            await asyncio.sleep(0.05)
            [found] = await submit(writer, ClosePeriod(day, "usr_1"))
            assert isinstance(found, Committed), found

    async with writing(ledger_database) as writer:
        await submit(writer, *(on(days[-1], f"in {n}", A, B, 100_000) for n in range(2)))
        await asyncio.gather(close(writer), *(post(writer, f"p{n}") for n in range(6)))
    events = journal(ledger_database)
    gl_codes = {e.account: e.gl_code for e in events if isinstance(e, AccountOpened)}
    closings = [event for event in events if isinstance(event, PeriodClosed)]
    assert [event.through for event in closings] == days[:-1]
    assert "period_closed" in refused, "nobody met a closed day"
    for closed in closings:
        within = [
            event
            for event in events
            if isinstance(event, TransactionPosted) and event.effective_date <= closed.through
        ]
        assert all(event.seq < closed.seq for event in within)
        stated = {
            line.gl_code: [int(line.debits), int(line.credits)] for line in closed.trial_balance
        }
        due = dict.fromkeys(gl_codes.values(), 0), dict.fromkeys(gl_codes.values(), 0)
        for entry in (entry for event in within for entry in event.entries):
            due[entry.side == "credit"][gl_codes[entry.account]] += int(entry.amount)
        assert stated == {code: [due[0][code], due[1][code]] for code in stated}
    assert verify(ledger_database.owner_url).findings == []
