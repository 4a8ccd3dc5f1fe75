"""Fixtures of monitoring: its schema in a fresh database, a house, a console."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg_pool import ConnectionPool

from monitoring.cli import upgrade
from monitoring.database import Connection, open_pool
from tests import monitoring_console, servers
from tests.monitoring_house import House

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def _migrated_monitoring(postgres: servers.Postgres) -> str:
    upgrade(postgres.create_database("monitoring_template"))
    return "monitoring_template"


@pytest.fixture
def monitoring_url(postgres: servers.Postgres, _migrated_monitoring: str) -> Iterator[str]:
    """A fresh database with schema `monitoring`, as the login that owns it."""
    name = f"monitoring_{next(_numbers)}"
    yield postgres.create_database(name, template=_migrated_monitoring)
    postgres.drop_database(name)


@pytest.fixture
def pool(monitoring_url: str) -> Iterator[ConnectionPool[Connection]]:
    with open_pool(monitoring_url, size=8) as opened:
        yield opened


@pytest.fixture(scope="session")
def _first_snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house") / "snapshots"
    House(folder).publish()
    return folder


@pytest.fixture
def published(tmp_path: Path, _first_snapshot: Path) -> House:
    """A house whose first snapshot is published."""
    folder = shutil.copytree(_first_snapshot, tmp_path / "snapshots")
    return House(folder, version=1)


@pytest.fixture(scope="module")
def console(
    postgres: servers.Postgres, _migrated_monitoring: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[monitoring_console.Console]:
    """A console of this module, with alerts."""
    name = f"console_{next(_numbers)}"
    url = postgres.create_database(name, template=_migrated_monitoring)
    with monitoring_console.running(url, tmp_path_factory.mktemp("console")) as running:
        yield running
    postgres.drop_database(name)
