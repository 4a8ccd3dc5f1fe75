"""The ledger API in the test's own process, on a real database, with identities of every role."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import datetime as dt
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import httpx
import psycopg
import pytest

from ledger_service.api.app import create_app
from ledger_service.contract.permissions import ROLES
from ledger_service.security import identities
from ledger_service.stack import probes
from ledger_service.stack.home import free_port
from tests.servers import LedgerDatabase, end, running, wait_ready

PASSWORD = "correct horse battery staple"
TIME_ZONE = "America/New_York"
"""Of a ledger that `days_ago` counts for."""
LEDGER = {
    "ledger": "simulated",
    "currencies": ["USD"],
    "time_zone": TIME_ZONE,
    "cut_off": "17:00",
    "calendar": "us_federal_reserve",
    "chart": "us_fintech_fbo/1",
}
"""The body that opens a ledger."""
KEYS = {
    "TALLYSTICK_TOKEN_KEY": base64.b64encode(b"t" * 32).decode(),
    "TALLYSTICK_WRITER_SECRET": "writer secret of the tests",
    "TALLYSTICK_VAULT_KEY": base64.b64encode(b"v" * 32).decode(),
}


def days_ago(count: int) -> str:
    """Counted in the ledger's time zone: in the first hours of UTC its yesterday is not over.

    A day ahead has a negative count.
    """
    today = dt.datetime.now(ZoneInfo(TIME_ZONE)).date()
    return (today - dt.timedelta(days=count)).isoformat()


@dataclasses.dataclass
class Api:
    """A running API. `keys` holds an API key's token per role."""

    http: httpx.AsyncClient
    pool: asyncpg.Pool
    owner: asyncpg.Connection
    keys: dict[str, str]
    users: dict[str, str] = dataclasses.field(default_factory=dict)
    """User id by name, of those who signed in; a user's name is the role."""

    async def call(self, role: str, method: str, path: str, **options) -> httpx.Response:
        """One request with the key of `role`; "" for none."""
        headers = {"Authorization": f"Bearer {self.keys[role]}"} if role else {}
        return await self.http.request(
            method, path, headers={**headers, **options.pop("headers", {})}, **options
        )

    async def sign_in(self, user_name: str) -> dict[str, str]:
        """Headers of a fresh session of a user, who is made at the first time."""
        if user_name not in self.users:
            self.users[user_name] = await identities.create_user(
                self.owner, user_name, PASSWORD, [user_name]
            )
        answer = await self.http.post(
            "/v1/sessions", json={"username": user_name, "password": PASSWORD}
        )
        assert answer.status_code == 201, answer.text
        return {"Authorization": f"Bearer {answer.json()['token']}"}


@contextlib.asynccontextmanager
async def serving(
    database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch, **settings: str
) -> AsyncIterator[Api]:
    """Start the API as the role `api`; make a key and a user of each role."""
    for name, value in {
        **KEYS,
        "TALLYSTICK_DATABASE_URL": database.url("api"),
        "TALLYSTICK_ENV": "production",
        **settings,
    }.items():
        monkeypatch.setenv(name, value)
    app = create_app()
    owner = await asyncpg.connect(database.owner_url)
    try:
        async with app.router.lifespan_context(app):
            pool = app.state.pool
            keys = {role: (await identities.create_key(pool, role, [role])).text for role in ROLES}
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
                yield Api(http, pool, owner, keys)
    finally:
        await owner.close()


@dataclasses.dataclass
class Services:
    """API and writer as processes of their own; `everything` is a key that holds every role."""

    url: str
    everything: str
    owner_url: str
    logs: list[Path]
    writer: subprocess.Popen
    start_writer: Callable[[], subprocess.Popen]
    start_api: Callable[[], str]
    """Starts one more API node; gives its address."""

    def restart_writer(self) -> None:
        """Stop the writer, and start one that knows nothing but what is in the database."""
        end(self.writer)
        self.writer = self.start_writer()

    def approve(self, approval: str) -> None:
        """A second person's word, as the console's session would write it."""
        with psycopg.connect(self.owner_url) as connection:
            connection.execute(
                "insert into security.person (user_id, user_name, password_hash, roles, demo) "
                "values ('usr_1', 'checker', 'x', array['approver'], false) on conflict do nothing"
            )
            connection.execute(
                "insert into security.session (session_id, user_id, secret_hash, expires_at) "
                "values ('ses_1', 'usr_1', 'x', now() + interval '1 hour') on conflict do nothing"
            )
            connection.execute(
                "update security.approval set status = 'approved', decided_by = 'usr_1', "
                "decided_at = now(), session_id = 'ses_1', reason = 'fine' where approval_id = %s",
                (approval,),
            )

    def by_two(self, http: httpx.Client, path: str, body: dict[str, Any]) -> httpx.Response:
        """Ask for what takes two people, have it approved, do it; gives the last answer."""
        asked = http.post(path, json=body)
        assert asked.status_code == 202, asked.text
        self.approve(asked.json()["approval"])
        return http.post(path, json={**body, "approval": asked.json()["approval"]})

    def client(self, url: str = "") -> httpx.Client:
        """A client of an API node, of the first one by default, that shows the key of every role."""
        headers = {"Authorization": f"Bearer {self.everything}"}
        return httpx.Client(base_url=url or self.url, headers=headers, timeout=30)


@contextlib.contextmanager
def processes(
    database: LedgerDatabase, folder: Path, *, log_level: str = "debug"
) -> Iterator[Services]:
    """Start writer and API on `database`; their logs are files in `folder`."""
    seed = base64.b64encode(b"l" * 32).decode()
    ports = [free_port() for _ in range(2)]
    common = {**KEYS, "TALLYSTICK_ENV": "production", "TALLYSTICK_LOG_LEVEL": log_level}
    writer = {
        **common,
        "TALLYSTICK_DATABASE_URL": database.url("writer"),
        "TALLYSTICK_LISTEN": f"127.0.0.1:{ports[0]}",
        "TALLYSTICK_HEALTH_LISTEN": f"127.0.0.1:{ports[1]}",
        "TALLYSTICK_LOG_KEY": seed,
    }
    api = {**common, "TALLYSTICK_DATABASE_URL": database.url("api")}
    logs = [folder / "writer.log", folder / "api.log"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        everything = asyncio.run(_key_of_every_role(database.owner_url))
    run = [sys.executable, "-c"]
    writer_command = [*run, "from ledger_service.engine.service import main; main()"]
    api_command = [*run, "from ledger_service.api.service import main; main()"]
    with contextlib.ExitStack() as stack:

        def start_writer() -> subprocess.Popen:
            writing = stack.enter_context(running(writer_command, logs[0], environment=writer))
            health = f"http://127.0.0.1:{ports[1]}/readyz"
            wait_ready(writing, logs[0], lambda: probes.http(health))
            return writing

        def start_api() -> str:
            place = f"127.0.0.1:{free_port()}"
            settings = {**api, "TALLYSTICK_LISTEN": place}
            serving_api = stack.enter_context(running(api_command, logs[1], environment=settings))
            wait_ready(serving_api, logs[1], lambda: probes.http(f"http://{place}/readyz"))
            return f"http://{place}"

        writing = start_writer()
        yield Services(
            start_api(), everything, database.owner_url, logs, writing, start_writer, start_api
        )


async def _key_of_every_role(owner_url: str) -> str:
    owner = await asyncpg.connect(owner_url)
    try:
        return (await identities.create_key(owner, "everything", ROLES)).text
    finally:
        await owner.close()
