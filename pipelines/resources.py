"""What Dagster's steps share: the flow, under the warehouse's lock."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import dagster as dg
from pydantic import PrivateAttr

from pipelines.flow import Flow

POOL = "warehouse"
"""Dagster's pool of size one: runs wait for each other before they ask for the lock."""
OWNER = "team:data-engineering"


class Warehouse(dg.ConfigurableResource):
    """Landing, warehouse and publication, for one step at a time."""

    wait_s: float = 900.0
    """How long a step waits for a process outside Dagster that holds the lock."""
    _flow: Flow | None = PrivateAttr(default=None)

    @property
    def unlocked(self) -> Flow:
        """The flow without the lock: only for what touches no file of the warehouse."""
        if self._flow is None:
            self._flow = Flow.from_settings()
        return self._flow

    @contextlib.contextmanager
    def flow(self) -> Iterator[Flow]:
        """The flow, with the lock. Errors: `WarehouseBusyError`, `MissingSetting`."""
        flow = self.unlocked
        with flow.lock.held(self.wait_s):
            yield flow

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Let go of Kafka and the API when the run ends."""
        del context
        if self._flow is not None:
            self._flow.close()
            self._flow = None
