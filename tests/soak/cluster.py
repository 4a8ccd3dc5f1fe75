"""API nodes, writers and a relay as processes that can be killed and come back."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import asyncpg
import httpx
import psycopg
import pytest

from ledger_service.payments import reversals
from ledger_service.security import identities
from ledger_service.stack import probes
from ledger_service.stack.home import free_port
from tests.ledger_api import KEYS, PASSWORD, _key_of_every_role
from tests.reference_ledger import AccountState
from tests.servers import Kafka, LedgerDatabase, end
from tests.soak.client import FLOORS, LEDGER, PAUSE_S

LEASE_SECONDS = 1.0
"""Shorter than the product's: that it lapses is tested, not how long that takes."""
# The lease's length, and how soon keys are taken for new after a take-over, are all that differs from
# `tally run`; `sabotage` breaks more on purpose.
_WRITER = """
from ledger_service.engine import lease, service, writer
from tests.soak import sabotage
lease.LEASE_SECONDS = {lease}
lease.RENEW_SECONDS = {lease} / 2
writer.CAUTION_S = {lease} / 5
sabotage.commit({sabotage!r})
service.main()
"""
_API = "from ledger_service.api.service import main; main()"
_RELAY = "from ledger_service.engine.relay_service import main; main()"
_ROOT = Path(__file__).parents[2]


@dataclasses.dataclass
class Node:
    """One place in the cluster; its process comes and goes, its ports stay."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    health: str
    failpoint: str = ""
    process: subprocess.Popen[bytes] | None = None
    _begins: int = 0
    """Where in the log its present process begins."""

    def start(self, failpoint: str = "") -> None:
        """Start the process, armed with `failpoint` (`place=kill@n`)."""
        self.failpoint = failpoint
        with self.log.open("ab") as log:
            self._begins = log.tell()
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=_ROOT,
                start_new_session=True,
                env={**os.environ, **self.environment, "TALLYSTICK_FAILPOINTS": failpoint},
            )

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def died_at_failpoint(self) -> bool:
        """Whether its last process was killed by itself, at the place it was armed with."""
        place = self.failpoint.partition("=")[0]
        if not place or self.process is None or self.process.returncode != -signal.SIGKILL:
            return False
        return f"failpoint {place} kill\n" in self.said()

    def said(self) -> str:
        """What its present process has written so far."""
        with self.log.open("rb") as log:
            log.seek(self._begins)
            return log.read().decode(errors="replace")

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def wait_ready(self, seconds: float = 60) -> None:
        probes.wait(self.name, lambda: probes.http(f"{self.health}/readyz"), seconds)


@dataclasses.dataclass
class Cluster:
    """A ledger with money in motion. `urls`: of the API nodes; `key` may do everything.

    `session`: of the person who approves what is asked for with the key.
    """

    nodes: list[Node]
    urls: list[str]
    key: str
    owner_url: str
    folder: Path
    session: str = ""

    def named(self, prefix: str) -> list[Node]:
        return [node for node in self.nodes if node.name.startswith(prefix)]

    def http(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.urls[0], headers=headers, timeout=90, trust_env=False)

    def open_ledger(self) -> None:
        """The ledger and the accounts that clients use."""
        with self.http() as http:
            body = {
                "ledger": LEDGER,
                "currencies": ["USD"],
                "time_zone": "America/New_York",
                "cut_off": "17:00",
                "calendar": "us_federal_reserve",
                "chart": "us_fintech_fbo/1",
            }
            _open(http, "/v1/ledgers", body)
            for name, floor in FLOORS.items():
                account = {"account": name, "currency": "USD"}
                limit = {} if floor is None else {"floor": str(floor)}
                _open(http, f"/v1/ledgers/{LEDGER}/accounts", {**account, **limit})
            asyncio.run(_make_approver(self.owner_url))
            body = {"username": "approver", "password": PASSWORD}
            self.session = http.post("/v1/sessions", json=body).json()["token"]

    def accounts(self) -> dict[str, AccountState]:
        """Every account over the API."""
        with self.http() as http:
            answer = http.get(f"/v1/ledgers/{LEDGER}/accounts")
            assert answer.is_success, answer.text
        return {
            row["account"]: AccountState(
                int(row["debits"]) - int(row["credits"]),
                int(row["pending_debits"]),
                int(row["pending_credits"]),
                row["status"],
            )
            for row in answer.json()["accounts"]
        }

    def note_reversals(self) -> None:
        """What the payments worker, which does not run here, writes of reversals it has executed."""
        asyncio.run(_note_reversals(self.owner_url))

    def journal(self) -> list[tuple[int, bytes]]:
        with psycopg.connect(self.owner_url) as connection:
            return connection.execute(
                "select seq, bytes from ledger.journal where ledger = %s order by seq",
                [LEDGER],
                binary=True,
            ).fetchall()

    def head(self) -> int:
        """Where the ledger stands; -1 while the database does not answer."""
        try:
            with psycopg.connect(self.owner_url, connect_timeout=3) as connection:
                row = connection.execute(
                    "select seq from ledger.head where ledger = %s", [LEDGER]
                ).fetchone()
        except psycopg.Error:
            return -1
        return row[0] if row else -1

    def wait_for_progress(self, transactions: int = 1, seconds: float = 60) -> None:
        """Until the ledger has taken more. Errors: AssertionError: nothing moves any more."""
        until = time.monotonic() + seconds
        start = -1
        while start < 0 or self.head() < start + transactions:
            assert time.monotonic() < until, "the ledger takes nothing more"
            start = self.head() if start < 0 else start
            time.sleep(0.05)


def _open(http: httpx.Client, path: str, body: dict[str, object]) -> None:
    """Ask until it is done, as a client does: on a busy machine the writer may not be there yet."""
    until = time.monotonic() + 60
    while (answer := http.post(path, json=body)).status_code == 503 and time.monotonic() < until:
        time.sleep(1)
    assert answer.is_success, answer.text


async def _make_approver(owner_url: str) -> None:
    owner = await asyncpg.connect(owner_url)
    try:
        await identities.create_user(owner, "approver", PASSWORD, ["approver"])
    finally:
        await owner.close()


async def _note_reversals(owner_url: str) -> None:
    owner = await asyncpg.connect(owner_url)
    try:
        for row in await owner.fetch(
            "select reversal_id, consumed_seq from payments.reversal join security.approval "
            "using (approval_id) where consumed_seq is not null"
        ):
            reversal = row["reversal_id"]
            for status in ("awaiting_approval", "approved"):
                await reversals.advance(owner, reversal, status, actor="worker")
            await reversals.advance(
                owner, reversal, "executed", actor="worker", executed_seq=row["consumed_seq"]
            )
    finally:
        await owner.close()


@contextlib.contextmanager
def cluster(
    database: LedgerDatabase,
    folder: Path,
    *,
    writers: int = 2,
    apis: int = 2,
    kafka: Kafka | None = None,
    sabotage: str = "",
    writer_url: str | None = None,
    api_url: str | None = None,
) -> Iterator[Cluster]:
    """Start everything on `database` and open the ledger.

    `writer_url`, `api_url`: other addresses of the database, for them (a proxy, several hosts).
    """
    folder.mkdir(parents=True, exist_ok=True)
    common = {**KEYS, "TALLYSTICK_ENV": "test"}
    nodes: list[Node] = []

    def add(name: str, program: str, address: str, **settings: str) -> str:
        listen, health = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        own = {
            "TALLYSTICK_DATABASE_URL": address,
            "TALLYSTICK_LISTEN": listen,
            "TALLYSTICK_HEALTH_LISTEN": health,
            **settings,
        }
        at = f"http://{listen if name.startswith('api') else health}"
        command = [sys.executable, "-c", program]
        nodes.append(Node(name, command, {**common, **own}, folder / f"{name}.log", at))
        return at

    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        key = asyncio.run(_key_of_every_role(database.owner_url))
    seed = base64.b64encode(b"l" * 32).decode()
    program = _WRITER.format(lease=LEASE_SECONDS, sabotage=sabotage)
    for number in range(writers):
        url = writer_url or database.url("writer")
        add(f"writer{number}", program, url, TALLYSTICK_LOG_KEY=seed)
    urls = [add(f"api{n}", _API, api_url or database.url("api")) for n in range(apis)]
    if kafka:
        add("relay", _RELAY, database.url("relay"), **kafka.settings("relay"))
    try:
        for node in nodes:
            node.start()
        for node in nodes:
            node.wait_ready()
        running = Cluster(nodes, urls, key, database.owner_url, folder)
        running.open_ledger()
        yield running
    finally:
        for node in nodes:
            node.kill()


@contextlib.contextmanager
def clients(
    running: Cluster, seed: str, number: int = 2, *, pause_s: float = PAUSE_S
) -> Iterator[Path]:
    """Clients at work while the block runs; gives the folder of their histories.

    `pause_s`: that a client rests at most between two requests.
    """
    folder = running.folder / "clients"
    folder.mkdir(exist_ok=True)
    started = []
    for name in "abcdefgh"[:number]:
        with (folder / f"{name}.log").open("ab") as log:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.soak.client", seed, name, str(folder),
                     running.key, running.session, str(pause_s), *running.urls],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=_ROOT,
                )
            )  # fmt: skip
    try:
        yield folder
    finally:
        stop_clients(started)


def stop_clients(started: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let every client hear its last answers."""
    for process in started:
        process.terminate()
    for process in started:
        try:
            process.wait(60)
        finally:
            end(process, signal.SIGKILL)
