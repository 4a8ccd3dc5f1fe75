"""The parts that the benchmark measures: durable PostgreSQL, writer, API, and accounts to move money."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import msgspec
import psutil

from ledger_service.domain.commands import OpenAccount
from tests import ledger_api, servers
from tests.bench import filling
from tests.bench.load import HOT, Plan, Result, account

LEDGER = "bench"
ROUTES = f"/v1/ledgers/{LEDGER}"
_PARTS = {"api.service": "api", "engine.service": "writer", "postgres": "postgres"}
"""What the command of a part has in it."""


@dataclasses.dataclass
class House:
    """A running ledger. `folder` is for files of the benchmark."""

    postgres: servers.Postgres
    database: servers.LedgerDatabase
    services: ledger_api.Services
    folder: Path
    next_number: int = 0

    @property
    def port(self) -> int:
        """The API's."""
        return int(self.services.url.rpartition(":")[2])

    def start(self, **plan: object) -> subprocess.Popen[bytes]:
        """Start a client process; `finish` gives its result."""
        settled = {
            "host": "127.0.0.1",
            "port": self.port,
            "key": self.services.everything,
            "path": f"{ROUTES}/transactions",
            "first_number": self.next_number,
            **plan,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(msgspec.convert(settled, Plan)))
        process.stdin.close()
        return process

    def finish(self, process: subprocess.Popen[bytes]) -> Result:
        """Wait for a client."""
        assert process.stdout is not None
        said = process.stdout.read()
        if process.wait():
            raise RuntimeError("the client failed")
        result = msgspec.json.decode(said, type=Result)
        self.next_number += result.requests
        return result


class Processor:
    """Processor time from here on: of each part, and of the whole machine."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._machine = _busy_s()
        self._processes = _spent_s()

    def spent(self) -> tuple[dict[str, float], float]:
        """Seconds by part, of what this process has started; and the share of the machine that
        others took meanwhile. A process that has ended in between is not counted."""
        found = dict.fromkeys([*_PARTS.values(), "other"], 0.0)
        for process, now in _spent_s().items():
            with contextlib.suppress(psutil.NoSuchProcess):
                command = " ".join(process.cmdline())
                part = next((name for mark, name in _PARTS.items() if mark in command), "other")
                found[part] += now - self._processes.get(process, 0)
        machine = (time.perf_counter() - self._began) * (psutil.cpu_count() or 1)
        foreign = _busy_s() - self._machine - sum(found.values())
        return found, max(0, foreign / machine)


def _busy_s() -> float:
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq


def _spent_s() -> dict[psutil.Process, float]:
    found: dict[psutil.Process, float] = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            found[process] = times.user + times.system
    return found


@contextlib.contextmanager
def database(folder: Path) -> Iterator[tuple[servers.Postgres, servers.LedgerDatabase]]:
    """A durable server with the stack's settings, and a migrated database on it."""
    with servers.postgres(folder, durable=True) as postgres:
        template = servers.migrated_template(postgres)
        made = servers.LedgerDatabase(postgres.create_database("bench", template=template))
        yield postgres, made


def open_accounts(target: servers.LedgerDatabase, names: Sequence[str]) -> None:
    """Open the ledger and accounts by the writer's own code, in this process."""
    asyncio.run(filling.carry_out(target, LEDGER, (OpenAccount(n, "USD", "bench") for n in names)))


@contextlib.contextmanager
def house(folder: Path, *, accounts: int) -> Iterator[House]:
    """Everything, with a ledger of so many accounts."""
    with database(folder) as (postgres, made):
        open_accounts(made, [HOT, *map(account, range(accounts))])
        with ledger_api.processes(made, folder, log_level="info") as services:
            wait_for_writer(services)
            yield House(postgres, made, services, folder)


def wait_for_writer(services: ledger_api.Services, seconds: float = 30) -> float:
    """Seconds until a command is answered with something else than that nobody writes."""
    began = time.perf_counter()
    body = {"idempotency_key": "probe", "kind": "transfer", "entries": [], "dry_run": True}
    with services.client() as client:
        while time.perf_counter() - began < seconds:
            with contextlib.suppress(httpx.TransportError):
                if client.post(f"{ROUTES}/transactions", json=body).status_code == 422:
                    return time.perf_counter() - began
    raise RuntimeError("the writer did not come up")
