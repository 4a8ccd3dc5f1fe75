"""The same project on DuckDB and on a Spark cluster: equal marts after a full build and two increments.

`make test-distributed`. Both engines read the files of one landing. EVENTS=n is the size of the history
that is generated beside the hand-written ones.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

from ledger_service.stack.cli import tally
from pipelines.ingestion.manifest import DataFile, LandedSource, Landing
from pipelines.ingestion.tables import TABLES
from pipelines.ingestion.typed import write_parquet
from pipelines.places import Places
from pipelines.publication.parts import content_of
from pipelines.warehouse import database
from pipelines.warehouse.dbt import Dbt
from pipelines.warehouse.spark import SparkMarts
from tests.compared_marts import compared_marts
from tests.distributed import cluster, generated
from tests.integration.dbt import histories
from tests.integration.dbt.warehouse import make_typed

EVENTS = int(os.environ.get("EVENTS", "2000"))
BUILDS = 3


class House:
    """One landing, a warehouse in DuckDB, and the marts on Spark."""

    def __init__(self, spark: cluster.Cluster) -> None:
        self.spark = spark
        self.places = Places.from_settings()
        self.landing = Landing.at(self.places.landing, self.places.cache)
        self.dbt = Dbt(self.places)
        self.marts = SparkMarts(self.places)
        models = [n for n in self.dbt.parse().nodes.values() if n.resource_type == "model"]
        # What DuckDB adds to a table after it removed some of it, Spark makes anew.
        self.incremental = [
            node.name
            for node in models
            if node.config.materialized == "incremental"
            and node.config.incremental_strategy != "append"
        ]
        self.compared = compared_marts(self.dbt.parse())
        self._pieces = histories.slices(histories.ALL, BUILDS)
        self._writer = duckdb.connect()
        generated.generate(self._writer, EVENTS, BUILDS)

    def land(self, piece: int) -> None:
        """Land a piece of every history, and name its files in the manifest."""
        manifest = self.landing.read()
        for table in TABLES:
            make_typed(self._writer, table.name, self._pieces[piece][table.name])
            if table.name in generated.TABLES:
                self._writer.execute(
                    "insert into typed by name select * exclude (piece) "
                    f"from generated.{table.name} where piece = {piece}"
                )
            column = table.columns[0][0]
            names = self._writer.execute(f"select distinct {column} from typed order by 1")
            for (name,) in names.fetchall():
                # Each in files of its own: the landing's views say by the source whose rows they are.
                source = manifest.sources.get(name, LandedSource(topic="", topic_id=""))
                path = source.path(f"typed/{table.name}/{name}", piece, piece)
                rows = f"from typed where {column} = '{name}'"
                self.landing.add(
                    path, lambda file, rows=rows: write_parquet(self._writer, rows, file)
                )
                files = [*source.typed.get(table.name, []), DataFile(path, piece, piece, rows=0)]
                typed = {**source.typed, table.name: files}
                landed = LandedSource(topic="", topic_id="", typed=typed, typed_seq=piece)
                manifest = manifest.with_source(name, landed)
        self.landing.commit(manifest)

    def build_on_duckdb(self) -> None:
        """As the pipelines do."""
        with database.opened(self.places.warehouse_file) as connection:
            database.make_landing_views(connection, self.landing)
        self.dbt.run()

    def differences(self) -> dict[str, list[tuple[Any, ...]]]:
        """Rows that one engine has and the other has not, by mart; the first few of each."""
        found = {}
        with database.opened(self.places.warehouse_file) as connection:
            for name in self.compared:
                # When a build began is the only thing that two builds may differ in.
                columns = "* exclude (built_at)" if name == "marts.build" else "*"
                here = f"(select {columns} from {name})"
                there = f"(select {columns} from {self._on_spark(name)})"
                if content_of(connection, here) != content_of(connection, there):
                    found[name] = connection.execute(
                        f"(select 'DuckDB', * from (from {here} except all from {there}) limit 3)"
                        f" union all (select 'Spark', * from (from {there} except all from {here})"
                        " limit 3)"
                    ).fetchall() or [
                        ("types", connection.execute(f"describe from {there}").fetchall())
                    ]
        return found

    def _on_spark(self, name: str) -> str:
        files = self.spark.files(name)
        return f"read_parquet({files!r})" if files else f"(from {name} limit 0)"

    def strategies(self) -> dict[str, str]:
        """What dbt ran on Spark last for each incremental model: `merge into`, or a full build."""
        ran = self.places.warehouse / "dbt-spark" / "target" / "run"
        found = {}
        for name in self.incremental:
            [file] = ran.rglob(f"{name}.sql")
            text = " ".join(file.read_text().split())
            known = ("merge into", "create or replace table")
            found[name] = next((words for words in known if text.startswith(words)), text[:80])
        return found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The cluster, and a home of its own."""
    folder = tmp_path_factory.mktemp("distributed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TALLYSTICK_HOME", str(folder / "home"))
        with cluster.running(folder / "spark") as spark:
            yield House(spark)


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - began:.1f} s", flush=True)


def kill_an_executor(spark: cluster.Cluster, killed: list[int]) -> None:
    """Kill -9 one of the processes that do the work, some seconds after both of them do."""
    while len(spark.executors()) < cluster.WORKERS:
        time.sleep(0.2)
    time.sleep(8)
    executor = spark.executors()[0]
    executor.kill()
    killed.append(executor.pid)


def test_marts_are_equal_after_a_full_build_and_two_increments(house: House) -> None:
    for piece in range(BUILDS):
        house.land(piece)
        with timed(f"build {piece + 1} on DuckDB"):
            house.build_on_duckdb()
        killed: list[int] = []
        with timed(f"build {piece + 1} on Spark"):
            if piece == 0:
                done = CliRunner().invoke(tally, ["pipeline", "spark", "--no-test"])
                assert done.exit_code == 0, done.output
            if piece == 1:
                killing = threading.Thread(
                    target=kill_an_executor, args=(house.spark, killed), daemon=True
                )
                killing.start()
            if piece > 0:
                house.marts.build()
        assert len(killed) == (piece == 1)
        with timed(f"comparison {piece + 1}"):
            assert not house.differences()
        expected = "merge into" if piece else "create or replace table"
        assert house.strategies() == dict.fromkeys(house.incremental, expected)


def test_dbts_own_tests_hold_on_spark(house: House) -> None:
    with timed("tests on Spark"):
        house.marts.test()


def test_a_changed_cent_is_found(house: House) -> None:
    [(ledger, account, balance)] = house.spark.sql(
        "select ledger, account, balance from lake.marts.account_balances_current"
        " order by balance desc limit 1"
    )
    house.spark.sql(
        "update lake.marts.account_balances_current set balance = balance + 1"
        f" where ledger = '{ledger}' and account = '{account}'"
    )
    [(mart, rows)] = house.differences().items()
    assert mart == "marts.account_balances_current"
    assert sorted((row[0], row[12]) for row in rows) == [
        ("DuckDB", balance),
        ("Spark", balance + 1),
    ]
