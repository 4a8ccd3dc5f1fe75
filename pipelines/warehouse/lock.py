"""One process at a time: landing, warehouse and publication belong to whoever holds the lock.

The lock is the operating system's (`flock`), so it ends with its process, however that ends.
Whoever waits shows it by holding a second file; a long holder (the streaming run) looks there
between two steps and gives way.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_POLL_S = 0.1


class WarehouseBusyError(RuntimeError):
    """Another process held the warehouse for longer than this one would wait."""


class WarehouseLock:
    """The lock of one warehouse's folder; hold it with `with lock.held(seconds):`."""

    def __init__(self, folder: Path) -> None:
        self._lock = folder / ".lock"
        self._queue = folder / ".queue"
        folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def held(self, wait_s: float) -> Iterator[None]:
        """Wait up to `wait_s` for the lock, then hold it. Errors: `WarehouseBusyError`."""
        deadline = time.monotonic() + wait_s
        with self._lock.open("a+") as lock:
            if not _try(lock):
                with self._queue.open("a+") as queue:
                    self._wait(queue, deadline)
                    self._wait(lock, deadline)
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def is_wanted(self) -> bool:
        """Whether another process waits for the lock."""
        with self._queue.open("a+") as queue:
            return not _try(queue)

    def _wait(self, file: IO[str], deadline: float) -> None:
        while not _try(file):
            if time.monotonic() >= deadline:
                holder = self._lock.read_text() or "unknown"
                raise WarehouseBusyError(
                    f"The warehouse is held by process {holder}. Wait for it to end, or stop it "
                    "with SIGTERM: it finishes the step in hand."
                )
            time.sleep(_POLL_S)


def _try(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
