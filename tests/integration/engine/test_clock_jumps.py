"""The server's clocks jump: the wall clock forward and back, the monotonic one from process to process.

Writers are real processes that start by way of `_STARTED`: their wall clock is off by what a file
says, at any moment. PostgreSQL's clock is not touched.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ledger_service.contract.events import decode_journal, timestamp
from ledger_service.engine.client import LedgerClient
from ledger_service.engine.protocol import Committed, Refused
from ledger_service.engine.verify import verify
from tests.integration.engine.conftest import (
    ACCOUNTS,
    LEDGER,
    LOG_SEED,
    SECRET,
    WRITER,
    open_ledger,
    wait_until,
)
from tests.ledger_book import capturing, holding, posting
from tests.servers import LedgerDatabase, end

A, FBO = ACCOUNTS[0], "bank:fbo"
HOUR = 3600
_STARTED = f"""
import datetime, pathlib, sys, time
off = pathlib.Path(sys.argv[1])
real, wall = datetime.datetime, time.time

class Jumping(real):
    @classmethod
    def now(cls, tz=None):
        return real.now(tz) + datetime.timedelta(seconds=float(off.read_text()))

datetime.datetime = Jumping
time.time = lambda: wall() + float(off.read_text())
{WRITER}
"""
_FAR = ["unshare", "--time", "--monotonic", "864000"]
"""Ten days later on the monotonic clock, as after a move to another machine. Takes root."""


class Clock:
    """A wall clock that a writer's process goes by."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set(0)

    def set(self, seconds: int) -> None:
        """How far it is off from now on."""
        new = self.file.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self.file)


@contextlib.contextmanager
def writer(
    database: LedgerDatabase, clock: Clock, *before: str
) -> Iterator[subprocess.Popen[bytes]]:
    with clock.file.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen(
            [*before, sys.executable, "-c", _STARTED, str(clock.file)],
            stdout=log,
            stderr=log,
            env={
                **os.environ,
                "TALLYSTICK_DATABASE_URL": database.url("writer"),
                "TALLYSTICK_WRITER_SECRET": SECRET,
                "TALLYSTICK_LOG_KEY": LOG_SEED,
            },
        )
    try:
        yield process
    finally:
        end(process)


async def one(client: LedgerClient, command: Any) -> Committed | Refused:
    [verdict] = await client.submit(LEDGER, [command], deadline_s=20)
    assert isinstance(verdict, Committed | Refused), verdict
    return verdict


def recorded_at(verdict: Any) -> dt.datetime:
    assert isinstance(verdict, Committed), verdict
    return dt.datetime.fromisoformat(decode_journal(verdict.event_bytes).recorded_at)


def refused(verdict: Any) -> str:
    assert isinstance(verdict, Refused), verdict
    return verdict.code


def who_writes(database: LedgerDatabase) -> tuple[str, int]:
    """Address in the lease, and epoch."""
    with psycopg.connect(database.owner_url) as connection:
        row = connection.execute(
            "select address, epoch from ledger.lease join ledger.head using (ledger) "
            "where ledger = %s",
            [LEDGER],
        ).fetchone()
    assert row is not None
    return row


def assert_sound(database: LedgerDatabase) -> None:
    with psycopg.connect(database.owner_url) as connection:
        rows = connection.execute("select bytes from ledger.journal order by seq").fetchall()
    times = [decode_journal(raw).recorded_at for (raw,) in rows]
    assert times == sorted(times), "recorded_at went back"
    assert verify(database.owner_url, None, full=True).findings == []


def soon(seconds: float) -> str:
    return timestamp(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds))


async def test_a_wall_clock_that_jumps_neither_turns_time_back_nor_holds_nor_the_writer_out(
    ledger_database: LedgerDatabase, client: LedgerClient, tmp_path: Path
) -> None:
    clock = Clock(tmp_path / "clock")
    with writer(ledger_database, clock):
        await open_ledger(client)
        first = await one(client, posting("in", (FBO, 100), (A, -100)))
        hold = await one(client, holding("h", (A, 9), (FBO, -9), expires_at=soon(HOUR / 2)))
        passing = await one(client, holding("p", (A, 9), (FBO, -9), expires_at=soon(1.5)))
        assert isinstance(hold, Committed)
        assert isinstance(passing, Committed)
        holder = who_writes(ledger_database)

        clock.set(HOUR)
        ahead = await one(client, posting("ahead", (FBO, 1), (A, -1)))
        assert recorded_at(ahead) - recorded_at(first) > dt.timedelta(minutes=59)
        assert refused(await one(client, capturing("c1", hold.seq))) == "hold_expired"

        clock.set(-HOUR)
        behind = await one(client, posting("behind", (FBO, 1), (A, -1)))
        assert recorded_at(behind) == recorded_at(ahead)
        # its end was decided, and stays so, though no clock says so any more
        assert refused(await one(client, capturing("c2", hold.seq))) == "hold_expired"
        late = holding("late", (A, 1), (FBO, -1), expires_at=soon(HOUR / 2))
        assert refused(await one(client, late)) == "bad_expiry"
        again = await one(client, posting("ahead", (FBO, 1), (A, -1)))
        assert isinstance(again, Committed)
        assert (again.seq, again.event_bytes, again.replayed) == (
            ahead.seq,
            ahead.event_bytes,
            True,
        )
        # what is over by the database's clock too is given back
        wait_until(lambda: released(ledger_database) == [passing.seq], 10)
        assert who_writes(ledger_database) == holder, "the lease was lost over a wall clock"
    assert_sound(ledger_database)


def released(database: LedgerDatabase) -> list[int]:
    with psycopg.connect(database.owner_url) as connection:
        rows = connection.execute(
            "select seq from ledger.hold where state = 'expired' order by seq"
        ).fetchall()
    return [seq for (seq,) in rows]


async def _hand_over(database: LedgerDatabase, client: LedgerClient, folder: Path, *by: str):
    """From a writer whose clock is an hour ahead to one whose clock is a day behind."""
    ahead, behind = Clock(folder / "ahead"), Clock(folder / "behind")
    ahead.set(HOUR)
    behind.set(-24 * HOUR)
    with writer(database, ahead) as first:
        await open_ledger(client)
        before = await one(client, posting("before", (FBO, 1), (A, -1)))
        address, _ = who_writes(database)
        with writer(database, behind, *by):
            first.send_signal(signal.SIGKILL)
            wait_until(lambda: who_writes(database)[0] != address)
            after = await one(client, posting("after", (FBO, 1), (A, -1)))
            assert recorded_at(after) == recorded_at(before)
            replay = await one(client, posting("before", (FBO, 1), (A, -1)))
            assert isinstance(replay, Committed)
            assert replay.replayed
    assert_sound(database)


async def test_time_does_not_go_back_from_one_writer_to_the_next(
    ledger_database: LedgerDatabase, client: LedgerClient, tmp_path: Path
) -> None:
    await _hand_over(ledger_database, client, tmp_path)


def _has_time_namespaces() -> bool:
    try:
        return subprocess.run([*_FAR, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


async def test_deadlines_and_leases_don_t_compare_the_monotonic_clocks_of_two_machines(
    ledger_database: LedgerDatabase, client: LedgerClient, tmp_path: Path
) -> None:
    if not _has_time_namespaces():
        pytest.skip("no time namespaces here: takes root and util-linux")
    await _hand_over(ledger_database, client, tmp_path, *_FAR)
