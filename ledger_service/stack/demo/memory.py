"""Peak memory of everything the demo runs, sampled while it runs."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Self

import psutil

from ledger_service.stack import supervision
from ledger_service.stack.home import Home


class PeakMemory:
    """Samples the resident memory of the stack's process families and of this process's own.

    Pages that processes share are counted once for each, so the figure is an upper bound.
    """

    def __init__(self, home: Home) -> None:
        self.peak_mb = 0
        self._home = home
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _sample(self) -> None:
        own = psutil.Process(os.getpid())
        while not self._stop.wait(2.0):
            with contextlib.suppress(psutil.Error, OSError):
                family = [own, *own.children(recursive=True), *supervision.families(self._home)]
                total = 0
                for process in {p.pid: p for p in family}.values():
                    with contextlib.suppress(psutil.Error):
                        total += process.memory_info().rss
                self.peak_mb = max(self.peak_mb, total // 2**20)
