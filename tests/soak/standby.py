"""The loss of the machine: a synchronous standby is promoted under load, and nothing acknowledged is lost.

`python -m tests.soak.standby --promotions 3`. Services know both servers by one address with two
hosts and `target_session_attrs=read-write`, so nobody restarts them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

from ledger_service.stack.postgres import SUPERUSER, as_ordinary_user, binaries
from tests import servers
from tests.soak.cluster import clients, cluster
from tests.soak.durable_postgres import DurablePostgres
from tests.soak.judge import Judgement
from tests.soak.soak import judge


class Pair:
    """A primary and its synchronous standby."""

    def __init__(self, folder: Path) -> None:
        self.primary = DurablePostgres(folder / "primary")
        self.standby = DurablePostgres(folder / "standby")
        (self.standby.server.password_file).write_text(
            self.primary.server.password_file.read_text()
        )

    def start(self) -> servers.LedgerDatabase:
        """Both, with a migrated database; its address names both."""
        self.primary.start()
        database = self.primary.ledger_database()
        self.attach_standby()
        return servers.LedgerDatabase(self.both(database.owner_url))

    def attach_standby(self) -> None:
        """Copy the primary, follow it, and let every commit wait for the copy."""
        server = self.primary.server
        subprocess.run(
            [*as_ordinary_user(), str(binaries() / "pg_basebackup"), "-h", "127.0.0.1",
             "-p", str(server.port), "-U", SUPERUSER, "-D", str(self.standby.server.data),
             "-R", "-X", "stream", "-c", "fast"],
            env={**os.environ, "PGPASSWORD": server.password_file.read_text().strip()},
            check=True, cwd="/", capture_output=True,
        )  # fmt: skip
        self.standby.start()
        with psycopg.connect(server.admin_url, autocommit=True) as connection:
            connection.execute("alter system set synchronous_standby_names = '*'")
            connection.execute("select pg_reload_conf()")
            until = time.monotonic() + 30
            while not connection.execute(
                "select 1 from pg_stat_replication where sync_state = 'sync'"
            ).fetchone():
                assert time.monotonic() < until, "the standby does not follow"
                time.sleep(0.05)

    def both(self, url: str) -> str:
        """An address that finds whichever of the two takes writes."""
        parts = urlsplit(url)
        hosts = ",".join(f"127.0.0.1:{one.server.port}" for one in (self.primary, self.standby))
        place = f"{parts.netloc.rpartition('@')[0]}@{hosts}"
        query = "target_session_attrs=read-write"
        return urlunsplit((parts.scheme, place, parts.path, query, ""))

    def promote(self) -> None:
        """The standby takes writes from now on, and waits for nobody."""
        with psycopg.connect(self.standby.server.admin_url, autocommit=True) as connection:
            assert connection.execute("select pg_promote()").fetchone() == (True,)

    def stop(self) -> None:
        """End both."""
        for one in (self.primary, self.standby):
            if one.process is not None:
                servers.end(one.process, signal.SIGQUIT)


@contextlib.contextmanager
def pair(folder: Path) -> Iterator[tuple[Pair, servers.LedgerDatabase]]:
    """Primary and standby while the block runs."""
    both = Pair(folder)
    try:
        yield both, both.start()
    finally:
        both.stop()


def promotion(folder: Path, seed: int, *, isolated_s: float = 0.0) -> tuple[Judgement, float]:
    """One promotion under load; gives the judgement, and the seconds in which nothing was taken.

    `isolated_s`: so long the old primary lives on beside the promoted standby.
    """
    with pair(folder) as (both, database), cluster(database, folder, writers=2) as running:
        with clients(running, str(seed)) as histories:
            running.wait_for_progress(200)
            time.sleep(random.Random(seed).uniform(0, 1))
            lost_at = time.monotonic()
            if isolated_s:
                both.promote()
                time.sleep(isolated_s)
                both.primary.kill()
            else:
                both.primary.kill()
                both.promote()
            running.wait_for_progress(1)
            away = time.monotonic() - lost_at
            running.wait_for_progress(200)
        return judge(running, histories), away


def main(arguments: list[str]) -> int:
    """Promote a few times; 1 where something acknowledged was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--promotions", type=int, default=3)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    chosen = parser.parse_args(arguments)
    wrong = 0
    for number in range(chosen.promotions):
        seed = chosen.seed + number
        with tempfile.TemporaryDirectory(prefix="tallystick-standby-") as folder:
            isolated_s = 2.0 if number % 2 else 0.0
            result, away = promotion(Path(folder), seed, isolated_s=isolated_s)
        wrong += len(result.violations)
        how = f"after {isolated_s:.0f} s of two primaries" if isolated_s else "after kill -9"
        print(
            f"seed {seed}: promoted {how}; {away:.1f} s without a commit; "
            f"{result.done.total()} commands, {result.acknowledged} acknowledged, "
            f"{result.doubtful} outcomes lost on the way, {result.found} found by key, "
            f"{result.absent} absent; {len(result.violations)} violations",
            *result.violations[:10], sep="\n  ", flush=True,
        )  # fmt: skip
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
