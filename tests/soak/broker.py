"""A Kafka broker that is killed and comes back on its data."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ledger_service.stack.kafka import rights
from tests import servers


class Broker:
    """One broker; its ports and its data stay."""

    def __init__(self, folder: Path) -> None:
        self.kafka = servers.Kafka(servers.kafka_server(folder))
        self._log = folder / "kafka.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers; the recovery of its log is part of that."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.kafka.server.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        servers.wait_ready(self._process, self._log, self.kafka.server.probe)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            servers.end(self._process, signal.SIGKILL)


@contextlib.contextmanager
def broker(folder: Path) -> Iterator[Broker]:
    """A fresh one with the stack's logins and their rights, while the block runs."""
    folder.mkdir(parents=True, exist_ok=True)
    one = Broker(folder)
    one.kafka.server.prepare()
    try:
        one.start()
        rights.grant(one.kafka.admin, {login: login for login in rights.LOGINS})
        yield one
    finally:
        one.kill()
