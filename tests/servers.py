"""Real servers for tests: started from the stack's own recipes, ended by pid whatever happens."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from ledger_service.contract.brokers import Brokers
from ledger_service.migrations.cli import upgrade
from ledger_service.stack import database, logins, probes, supervision
from ledger_service.stack.home import free_port, password
from ledger_service.stack.kafka import rights
from ledger_service.stack.kafka.server import ADMIN, KafkaServer
from ledger_service.stack.postgres import PostgresServer
from ledger_service.stack.temporal import TemporalServer

JARS = Path(__file__).parents[1] / ".tallystick" / "kafka" / "lib"
"""Where the stack of this checkout keeps Kafka's jars: brought once, kept between test runs."""


def end(
    process: subprocess.Popen | psutil.Process, how: int = signal.SIGTERM, seconds: float = 15
) -> None:
    """End a process and everything it started; what does not go in time is killed."""
    try:
        root = psutil.Process(process.pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        root.send_signal(how)
    if isinstance(process, subprocess.Popen):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    left = supervision.wait_for_ends(
        family, 2 if isinstance(process, subprocess.Popen) else seconds
    )
    for one in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    supervision.wait_for_ends(left, 5)


@contextlib.contextmanager
def running(
    command: Sequence[str],
    log: Path,
    *,
    stop: int = signal.SIGTERM,
    environment: dict[str, str] | None = None,
) -> Iterator[subprocess.Popen]:
    """A process while the block runs, in a process group of its own, its output in `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    try:
        yield process
    finally:
        end(process, stop)


def wait_ready(
    process: subprocess.Popen, log: Path, probe: probes.Probe, seconds: float = 60
) -> None:
    """Wait for a server that `running` started; where it fails, its last lines are in the error."""
    try:
        probes.wait(Path(log).stem, probe, seconds, alive=lambda: process.poll() is None)
    except Exception as error:
        raise RuntimeError(f"{error}\n{log.read_text(errors='replace')[-2000:]}") from error


@dataclasses.dataclass(frozen=True)
class Postgres:
    """A private PostgreSQL; `admin_url` is its superuser's."""

    admin_url: str

    def create_database(self, name: str, template: str | None = None) -> str:
        """A database owned by the owner role; gives its address as that role."""
        if template:
            self._copy_database(template, name)
        else:
            database.create_database(self.admin_url, name)
        return logins.with_credentials(self.admin_url, logins.OWNER, "owner", name)

    def _copy_database(self, template: str, name: str) -> None:
        """Copy file by file: through the log, as a server does by itself, takes five times longer."""
        import psycopg

        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            connection.execute(
                f'create database "{name}" owner "{logins.OWNER}" template "{template}"'
                " strategy file_copy"
            )

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected."""
        import psycopg

        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            connection.execute(f'drop database if exists "{name}" with (force)')


@dataclasses.dataclass(frozen=True)
class LedgerDatabase:
    """A migrated database of one test."""

    owner_url: str

    def url(self, role: str) -> str:
        """The address as the login of writer, api, relay, worker or monitor."""
        return logins.with_credentials(self.owner_url, logins.login(TEMPLATE, role), "login")


TEMPLATE = "tallystick_template"


@contextlib.contextmanager
def postgres(folder: Path, *, durable: bool = False) -> Iterator[Postgres]:
    """A fresh PostgreSQL, fast instead of durable unless told otherwise."""
    secret = folder / "postgres.password"
    folder.mkdir(parents=True, exist_ok=True)
    secret.write_text(password())
    secret.chmod(0o600)
    server = PostgresServer(folder / "postgres", free_port(), secret, durable=durable)
    server.prepare()
    log = folder / "postgres.log"
    with running(server.command(), log, stop=signal.SIGINT) as process:
        wait_ready(process, log, server.probe)
        import psycopg

        with psycopg.connect(server.admin_url, autocommit=True) as connection:
            database.create_owner(connection, "owner")
        yield Postgres(server.admin_url)


def migrated_template(server: Postgres) -> str:
    """A database with every migration and login, from which the tests' databases are copied."""
    owner_url = server.create_database(TEMPLATE)
    database.create_logins(
        owner_url, TEMPLATE, dict.fromkeys([*logins.ROLES, logins.MONITOR], "login")
    )
    upgrade(owner_url)
    return TEMPLATE


QUICK_JAVA = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")


@dataclasses.dataclass(frozen=True)
class Kafka:
    """A private Kafka with the logins of the stack and their rights."""

    server: KafkaServer

    @property
    def admin(self) -> Brokers:
        """As whoever may all: for what tests prepare, break and look at."""
        return self.server.known(ADMIN)

    def login(self, name: str, password: str | None = None) -> Brokers:
        """As the login of a part: relay, pipelines, verifier or replay."""
        return Brokers(
            self.server.bootstrap, "SASL_PLAINTEXT", logins.kafka_login(name), password or name
        )

    def settings(self, name: str) -> dict[str, str]:
        """The same as settings of a process."""
        return kafka_settings(self.login(name))


def kafka_settings(brokers: Brokers) -> dict[str, str]:
    """What the environment of a process says of Kafka."""
    return {
        "TALLYSTICK_KAFKA_BOOTSTRAP": brokers.bootstrap,
        "TALLYSTICK_KAFKA_SECURITY": brokers.security,
        "TALLYSTICK_KAFKA_USERNAME": brokers.username,
        "TALLYSTICK_KAFKA_PASSWORD": brokers.password,
        "TALLYSTICK_KAFKA_CA": brokers.ca,
    }


def kafka_server(folder: Path) -> KafkaServer:
    """A broker in `folder`, in which every login's password is its name; not started."""
    ports = (free_port(), free_port(), free_port())
    return KafkaServer(folder / "kafka", JARS, *ports, str, jvm_options=QUICK_JAVA)


@contextlib.contextmanager
def kafka(folder: Path) -> Iterator[Kafka]:
    """A fresh Kafka, in which every login's password is its name."""
    server = kafka_server(folder)
    server.prepare()
    log = folder / "kafka.log"
    # Killed at the end: nobody needs what it would tidy up for seconds.
    with running(server.command(), log, stop=signal.SIGKILL) as process:
        wait_ready(process, log, server.probe)
        one = Kafka(server)
        rights.grant(one.admin, {login: login for login in rights.LOGINS})
        yield one


@contextlib.contextmanager
def temporal(folder: Path) -> Iterator[str]:
    """A fresh Temporal; gives its address."""
    server = TemporalServer(folder / "temporal" / "state.db", free_port(), free_port(), free_port())
    server.prepare()
    log = folder / "temporal.log"
    with running(server.command(), log, stop=signal.SIGKILL) as process:
        wait_ready(process, log, server.probe)
        yield server.address
