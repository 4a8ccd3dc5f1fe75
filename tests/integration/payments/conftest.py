"""One ledger for all tests of this folder; each test has transactions of its own."""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from ledger_service.api.app import create_app
from ledger_service.payments import messages
from ledger_service.stack.home import free_port
from tests import servers
from tests.integration.payments import surroundings
from tests.integration.payments.surroundings import Wire, World, serving

WRITER = "from ledger_service.engine.service import main; main()"


KeepHistory = Callable[[dict[str, Any], str], Awaitable[None]]
HISTORIES = Path(__file__).parents[2] / "workflows"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--record-histories`: keep what Temporal stored, for tests/workflows/test_replay.py."""
    parser.addoption("--record-histories", action="store_true", help="write tests/workflows/*.json")


def random_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


@pytest.fixture(scope="module")
def database(postgres: servers.Postgres, _migrated: str) -> Iterator[servers.LedgerDatabase]:
    """A migrated database for the whole module."""
    yield servers.LedgerDatabase(postgres.create_database("payments", template=_migrated))
    postgres.drop_database("payments")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs of the processes."""
    return tmp_path_factory.mktemp("payments")


@pytest.fixture(scope="module")
def settings(
    database: servers.LedgerDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """The environment of the API, which runs in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "HOME": str(tmp_path_factory.mktemp("home")),
            "DATABASE_URL": database.url("api"),
            "WRITER_SECRET": "between tests",
            "VAULT_KEY": random_key(),
            "TOKEN_KEY": random_key(),
            "LOG_KEY": random_key(),
        }.items():
            patch.setenv(f"TALLYSTICK_{name}", value)
        yield


@pytest.fixture(scope="module")
def writer(settings: None, database: servers.LedgerDatabase, folder: Path) -> Iterator[None]:
    """The writer, in a process of its own."""
    environment = {"TALLYSTICK_DATABASE_URL": database.url("writer")}
    command = [sys.executable, "-c", WRITER]
    with servers.running(command, folder / "writer.log", environment=environment):
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    writer: None, database: servers.LedgerDatabase, temporal: str, folder: Path
) -> AsyncIterator[World]:
    """The API on real servers, a ledger with two accounts, people, and a wire to the API."""
    async with contextlib.AsyncExitStack() as stack:
        api_url = await stack.enter_async_context(serving(create_app(), free_port()))
        wire = Wire(api_url)
        stack.push_async_callback(wire.close)
        wire_url = await stack.enter_async_context(serving(wire.app, free_port()))
        api = await stack.enter_async_context(httpx.AsyncClient(base_url=api_url, timeout=20))
        owner = await stack.enter_async_context(
            asyncpg.create_pool(database.owner_url, min_size=1, max_size=4)
        )
        keys = await surroundings.make_identities(owner)
        tokens = {name: await surroundings.sign_in(api, name) for name in surroundings.PEOPLE}
        made = World(
            database, temporal, api, wire, wire_url, owner, keys, tokens, folder, itertools.count(1)
        )
        await made.open_ledger()
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def keep_history(world: World, request: pytest.FixtureRequest) -> KeepHistory:
    """A function that keeps the history of a reversal's workflow under a name, if asked to."""

    async def keep(asked: dict[str, Any], name: str) -> None:
        if not request.config.getoption("--record-histories"):
            return
        workflow_id = messages.reversal_workflow_id(asked["reversal"])
        client = await world.temporal_client()
        history = await client.get_workflow_handle(workflow_id).fetch_history()
        # Who ran it, process and machine, is nobody's business: it also names the sticky queue.
        text = re.sub(r'("identity": ?)"[^"]*"', r'\1"recorded"', history.to_json())
        text = text.replace(socket.gethostname(), "recorded")
        (HISTORIES / f"{name}.{workflow_id}.json").write_text(text + "\n")

    return keep
