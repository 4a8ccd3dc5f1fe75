"""API, writer and sandbox bank as processes, once for all tests of this folder; a ledger a test."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ledger_service.stack import probes
from ledger_service.stack.home import free_port as choose_free_port
from tests import servers
from tests.ledger_api import Services, processes

SECRET = "secret of the line to the bank"
_ledgers = itertools.count(1)


@pytest.fixture(scope="module")
def services(postgres, _migrated, tmp_path_factory) -> Iterator[Services]:
    database = servers.LedgerDatabase(postgres.create_database("loading", template=_migrated))
    with processes(database, tmp_path_factory.mktemp("services")) as running:
        yield running
    postgres.drop_database("loading")


@pytest.fixture(scope="module")
def bank_url(tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("bank")
    port = choose_free_port()
    environment = {
        "TALLYSTICK_HOME": str(folder),
        "TALLYSTICK_LISTEN": f"127.0.0.1:{port}",
        "TALLYSTICK_BANK_SECRET": SECRET,
    }
    command = [
        *(sys.executable, "-c"),
        "from ledger_service.rails.sandbox_bank_service import main; main()",
    ]
    url, log = f"http://127.0.0.1:{port}", folder / "bank.log"
    with servers.running(command, log, environment=environment) as process:
        servers.wait_ready(process, log, lambda: probes.http(f"{url}/readyz"))
        yield url


@pytest.fixture
def surroundings(services: Services, bank_url: str, home: Path, monkeypatch) -> Path:
    """The settings of a command that loads; gives its home."""
    for name, value in {
        "TALLYSTICK_API_URL": services.url,
        "TALLYSTICK_API_KEY": services.everything,
        "TALLYSTICK_BANK_URL": bank_url,
        "TALLYSTICK_BANK_SECRET": SECRET,
    }.items():
        monkeypatch.setenv(name, value)
    return home


@pytest.fixture
def ledger() -> str:
    return f"loaded_{next(_ledgers)}"


@pytest.fixture
def api(services: Services) -> Iterator[httpx.Client]:
    with services.client() as client:
        yield client
