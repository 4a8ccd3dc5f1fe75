"""A Spark cluster on this machine: a master and two workers, each a process, a catalog in PostgreSQL.

All of it listens on 127.0.0.1, lies in one folder, and is ended by pid.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from ledger_service.stack.home import free_port
from ledger_service.stack.kafka.server import fetch_jars
from tests import servers

POM = Path(__file__).parent / "pom.xml"
JARS = servers.JARS.parents[1] / "spark" / "lib"
WORKERS = 2
CATALOG = "lake"
QUICK_JAVA = " ".join(servers.QUICK_JAVA[1:])
"""Small data and many statements: what the compiler would gain, it would cost first."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The servers, and the session that dbt opens in this process."""

    workers: list[subprocess.Popen]

    def sql(self, query: str) -> list[Any]:
        """Ask the session. It is dbt's: there is one in a process."""
        from pyspark.sql import SparkSession

        return SparkSession.builder.getOrCreate().sql(query).collect()

    def files(self, table: str) -> list[str]:
        """The Parquet files that hold a table now: no delete files beside them."""
        rows = self.sql(f"select content, file_path from {CATALOG}.{table}.files")
        assert all(row.content == 0 for row in rows), f"{table} has delete files"
        return [urlsplit(row.file_path).path for row in rows]

    def executors(self) -> list[psutil.Process]:
        """The processes that do the work, one of each worker."""
        return [
            child
            for worker in self.workers
            for child in psutil.Process(worker.pid).children(recursive=True)
            if child.name() == "java"
        ]


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Start everything, and let this process know where it is by SPARK_CONF_DIR."""
    import pyspark

    fetch_jars(JARS, POM)
    home = Path(pyspark.__file__).parent
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        "SPARK_HOME": str(home),
        "SPARK_CONF_DIR": str(folder / "conf"),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_DIRS": str(folder / "scratch"),
        "SPARK_DAEMON_MEMORY": "256m",
        "SPARK_DAEMON_JAVA_OPTS": QUICK_JAVA,
        # or it takes REST submissions at a port of its own
        "SPARK_MASTER_OPTS": "-Dspark.master.rest.enabled=false",
    }
    port, page = free_port(), free_port()
    address = f"spark://127.0.0.1:{port}"
    start = [str(home / "bin" / "spark-class")]
    master = [*start, "org.apache.spark.deploy.master.Master", "--host", "127.0.0.1",
              "--port", str(port), "--webui-port", str(page)]  # fmt: skip
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(servers.postgres(folder / "postgres"))
        catalog = postgres.create_database(CATALOG)
        configuration = folder / "conf" / "spark-defaults.conf"
        configuration.parent.mkdir()
        configuration.write_text(defaults(address, catalog, folder))
        stack.enter_context(_environment(environment))
        log = folder / "master.log"
        process = stack.enter_context(servers.running(master, log, environment=environment))
        servers.wait_ready(process, log, lambda: _missing_workers(page, 0))
        workers = []
        for number in range(WORKERS):
            log = folder / f"worker_{number}.log"
            worker = [*start, "org.apache.spark.deploy.worker.Worker", "--host", "127.0.0.1",
                      "--port", str(free_port()), "--webui-port", str(free_port()), "--cores", "1",
                      "--memory", "1g", "--work-dir", str(folder / "work"), address]  # fmt: skip
            workers.append(
                stack.enter_context(servers.running(worker, log, environment=environment))
            )
            servers.wait_ready(
                workers[-1], log, lambda count=number + 1: _missing_workers(page, count)
            )
        stack.callback(_stop_session)
        yield Cluster(workers)


def defaults(master: str, catalog: str, folder: Path) -> str:
    """Spark's own configuration: where the cluster is, how large, and where the tables lie."""
    database = urlsplit(catalog)
    jars = ":".join(str(jar) for jar in sorted(JARS.glob("*.jar")))
    lake = "spark.sql.catalog.lake"
    settings = {
        "spark.master": master,
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.memory": "1g",
        "spark.executor.memory": "640m",
        "spark.executor.cores": "1",
        # Read where they are; `spark.jars` would copy them into each application's folder.
        "spark.driver.extraClassPath": jars,
        "spark.executor.extraClassPath": jars,
        "spark.driver.extraJavaOptions": QUICK_JAVA,
        "spark.executor.extraJavaOptions": QUICK_JAVA,
        "spark.sql.shuffle.partitions": "2",
        # It would plan each statement anew after each of its stages.
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.warehouse.dir": str(folder / "scratch" / "warehouse"),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        lake: "org.apache.iceberg.spark.SparkCatalog",
        f"{lake}.type": "jdbc",
        f"{lake}.uri": f"jdbc:postgresql://{database.hostname}:{database.port}{database.path}",
        f"{lake}.jdbc.user": database.username,
        f"{lake}.jdbc.password": database.password,
        f"{lake}.jdbc.schema-version": "V1",  # with views
        f"{lake}.warehouse": f"file:{folder / 'lake'}",
    }
    return "".join(f"{name} {value}\n" for name, value in settings.items())


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """What the driver, which is this process, is told."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _missing_workers(page: int, wanted: int) -> str | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{page}/json/", timeout=3) as answer:
            alive = json.load(answer)["aliveworkers"]
    except OSError as error:
        return str(error)
    return None if alive >= wanted else f"{alive} of {wanted} workers"


def _stop_session() -> None:
    from pyspark.sql import SparkSession

    if (session := SparkSession.getActiveSession()) is not None:
        session.stop()
