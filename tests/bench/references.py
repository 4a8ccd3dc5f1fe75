"""What the ledger is measured against, in the same run: pgbench, the disk, a route that does nothing."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from ledger_service.stack import probes
from ledger_service.stack.home import free_port
from ledger_service.stack.postgres import binaries
from tests import servers

_TPCB_SCALE = "10"
_TPCB_CLIENTS = "8"
"""Of 1, 8 and 32 the fastest here."""


def tpcb_per_s(server: servers.Postgres, seconds: float) -> float:
    """Transactions a second of pgbench's TPC-B, prepared, on the same server."""
    url = urlsplit(server.admin_url)
    server.create_database("tpcb")
    environment = {
        **os.environ,
        "PGHOST": url.hostname or "",
        "PGPORT": str(url.port),
        "PGUSER": url.username or "",
        "PGPASSWORD": url.password or "",
    }

    def pgbench(*options: str) -> str:
        command = [str(binaries() / "pgbench"), *options, "tpcb"]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout

    pgbench("--initialize", "--scale", _TPCB_SCALE, "--quiet")
    said = pgbench(
        "--protocol=prepared", "--client", _TPCB_CLIENTS, "--time", str(max(1, round(seconds)))
    )
    server.drop_database("tpcb")
    found = re.search(r"tps = ([0-9.]+)", said)
    assert found is not None, said
    return float(found[1])


def fsyncs_per_s(folder: Path, seconds: float) -> float:
    """Writes of 8 KiB a second, each forced to the disk."""
    block = os.urandom(8192)
    file = os.open(folder / "fsync", os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(file, block * 256, 0)
        count, began = 0, time.perf_counter()
        while (took := time.perf_counter() - began) < seconds:
            os.pwrite(file, block, count % 256 * len(block))
            os.fdatasync(file)
            count += 1
        return count / took
    finally:
        os.close(file)
        (folder / "fsync").unlink()


@contextlib.contextmanager
def no_op(folder: Path, answer_bytes: int) -> Iterator[int]:
    """A server whose one route reads the body and gives a fixed answer; gives its port."""
    port, log = free_port(), folder / "no_op.log"
    command = [sys.executable, "-m", "tests.bench.no_op", str(port), str(answer_bytes)]
    with servers.running(command, log) as process:
        servers.wait_ready(process, log, lambda: probes.http(f"http://127.0.0.1:{port}/"))
        yield port
