"""A PostgreSQL that keeps what it says it keeps, and can be killed in several ways."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import psutil
import psycopg

from ledger_service.stack import database, logins
from ledger_service.stack.home import free_port, password
from ledger_service.stack.postgres import PostgresServer
from tests import servers

_UNHURRIED = ("-c", "wal_writer_delay=10s", "-c", "wal_writer_flush_after=1GB")
"""What no session waits for reaches the disk late: so one that ought to wait and does not is found."""


class DurablePostgres:
    """A PostgreSQL of this run's own, which is killed with the others."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        secret = folder / "password"
        if not secret.exists():
            secret.write_text(password())
            secret.chmod(0o600)
        self.server = PostgresServer(folder / "data", port or free_port(), secret)
        self.log = folder / "postgres.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start it, and wait until it takes connections; recovery is part of that."""
        self.server.prepare()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.server.command(), *_UNHURRIED, *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
            )  # fmt: skip
        servers.wait_ready(self.process, self.log, self.server.probe)

    def kill(self) -> None:
        """kill -9, every process of it at once."""
        if self.process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.process.pid)
            root.suspend()  # first: what it forks later would live on, and hold its shared memory
            family = [*root.children(recursive=True), root]
            for one in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            psutil.wait_procs(family[:-1], timeout=10)
        self.process.wait()

    def crash(self) -> None:
        """kill -9 of one backend: PostgreSQL ends all of its sessions and recovers by itself."""
        try:
            with psycopg.connect(self.server.admin_url, connect_timeout=3) as connection:
                row = connection.execute(
                    "select pid from pg_stat_activity where backend_type = 'client backend' "
                    "and pid <> pg_backend_pid() order by random() limit 1"
                ).fetchone()
        except psycopg.Error:
            return
        if row:
            with contextlib.suppress(ProcessLookupError):
                os.kill(row[0], signal.SIGKILL)

    def ledger_database(self) -> servers.LedgerDatabase:
        """A migrated database on it, with every login."""
        with psycopg.connect(self.server.admin_url, autocommit=True) as connection:
            database.create_owner(connection, "owner")
        servers.migrated_template(servers.Postgres(self.server.admin_url))
        return servers.LedgerDatabase(
            logins.with_credentials(self.server.admin_url, logins.OWNER, "owner", servers.TEMPLATE)
        )
