"""What Dagster's steps share: the flow, under the warehouse's lock."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator

import dagster as dg
from pydantic import PrivateAttr

from pipelines.flow import Flow

POOL = "warehouse"
"""Dagster's pool of size one: runs wait for each other before they ask for the lock."""
OWNER = "team:data-engineering"
TIME_ZONE = "America/New_York"
"""Whose nights schedules, deadlines and daily partitions follow."""
RETRY = dg.RetryPolicy(
    max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)
"""Of steps that ask Kafka or the ledger's API: both come back."""
FOLLOWS = (
    dg.AutomationCondition.eager() & dg.AutomationCondition.all_deps_blocking_checks_passed()
).with_label("follows what passed its blocking checks")
"""Made anew when what it is made of was, by a run that did not make both."""
NIGHTLY = dg.FreshnessPolicy.cron(
    deadline_cron="0 4 * * *", lower_bound_delta=dt.timedelta(hours=2), timezone=TIME_ZONE
)
"""Made between two and four in the morning; how late facts are meanwhile, the check `freshness` says."""


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
