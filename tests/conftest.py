"""Fixtures that all rooms share: real servers, made once a session; a fresh database a test."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from ledger_service.stack.home import free_port as choose_free_port
from tests import servers

pytest_plugins = ["tests.time_budget"]

# The tests start many processes. Where bytecode is not kept each of them compiles all that it imports
# anew, which takes more of the processor than what is tested.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"
FOREIGN = Path(__file__).parents[1] / "build" / "foreign-verifier"
"""Code of others that checks our proofs: tests/integration/engine/foreign_verifier."""
HOUSE = "end_to_end/test_demo.py"
_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip by name what this machine can't run, and say what to do about it; the house comes first."""
    no_browser = pytest.mark.skip(reason="no `chromium` command: apt-get install chromium")
    no_foreign = pytest.mark.skip(
        reason="the foreign verifier is not built: make foreign (takes Go)"
    )
    no_data = pytest.mark.skip(reason="no ../shared/data beside the checkout")
    for item in items:
        if item.get_closest_marker("browser") and shutil.which("chromium") is None:
            item.add_marker(no_browser)
        if item.get_closest_marker("foreign") and not FOREIGN.exists():
            item.add_marker(no_foreign)
        if item.get_closest_marker("real_data") and not REAL_DATA.is_dir():
            item.add_marker(no_data)
    items.sort(key=lambda item: HOUSE not in item.nodeid)


class Rooms(LoadScopeScheduling):
    """Shares the tests out among processes (`-n`) by room; rooms that need Kafka go together."""

    def _split_scope(self, nodeid: str) -> str:
        if HOUSE in nodeid:
            return HOUSE  # takes longest, and has its own of everything
        room = Path(nodeid.partition("::")[0]).parent.name
        return "kafka" if room in ("pipelines", "relay") else room


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Rooms:
    """What pytest-xdist asks for when a run is shared out."""
    return Rooms(config, log)


@pytest.fixture(scope="session", autouse=True)
def _surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No setting of the person who runs the tests reaches them, and no tool phones home."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("TALLYSTICK_")]:
            patch.delenv(name)
        patch.setenv("TALLYSTICK_HOME", str(tmp_path_factory.mktemp("home")))
        for name, value in {
            "DO_NOT_TRACK": "1",
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        }.items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def free_port():
    """A function that gives a port that is free now."""
    return choose_free_port


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of this test, named by TALLYSTICK_HOME."""
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("TALLYSTICK_HOME", str(path))
    return path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; for tests marked `real_data`."""
    return REAL_DATA


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Postgres]:
    """A private PostgreSQL: `.admin_url`, `.create_database(name)` (gives the owner's address)."""
    with servers.postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def _migrated(postgres: servers.Postgres) -> str:
    return servers.migrated_template(postgres)


@pytest.fixture
def ledger_database(postgres: servers.Postgres, _migrated: str) -> Iterator[servers.LedgerDatabase]:
    """A fresh migrated database: `.owner_url`, `.url(role)`."""
    name = f"ledger_{next(_numbers)}"
    yield servers.LedgerDatabase(postgres.create_database(name, template=_migrated))
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Kafka]:
    """A private Kafka: `.login(part)`, `.admin`; topics must be created by name."""
    with servers.kafka(tmp_path_factory.mktemp("kafka")) as server:
        yield server


@pytest.fixture(scope="session")
def temporal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a private Temporal, namespace `default`."""
    with servers.temporal(tmp_path_factory.mktemp("temporal")) as address:
        yield address
