"""Something that goes on in a thread beside what is killed."""

from __future__ import annotations

import threading
from typing import Self


class Beside:
    """Takes one step after the other while the block runs; what a step raises is kept in words."""

    def __init__(self, every_s: float) -> None:
        self.violations: list[str] = []
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def step(self) -> None:
        """Do what is done again and again."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def wrong(self, what: str) -> None:
        """Keep a violation, once."""
        if what not in self.violations:
            self.violations.append(what)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.step()
            except Exception as failure:  # noqa: BLE001 - whatever it meets is to be told
                self.wrong(f"{type(self).__name__} met {type(failure).__name__}: {failure}")
