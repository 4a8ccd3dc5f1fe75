"""The course of one reversal: wait for the second person, then have the ledger execute it.

Temporal only drives. Each step is an activity that reads and writes the tables, so a forged or
repeated message can at most cause a look at the approval row (P12), and a lost one costs minutes.
"""

from __future__ import annotations

import datetime as dt

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from ledger_service.payments import messages

PATIENT = RetryPolicy(
    initial_interval=dt.timedelta(milliseconds=200),
    backoff_coefficient=2,
    maximum_interval=dt.timedelta(seconds=10),
)
"""Without an end: an approved reversal is not given up because a server is away."""

FIRST_LOOK = dt.timedelta(seconds=5)
SLOWEST_LOOK = dt.timedelta(minutes=15)
"""Pause between looks at the approval when nobody tells; it doubles from one to the other."""
EXPIRY_GRACE = dt.timedelta(seconds=1)


@workflow.defn(name=messages.REVERSAL_WORKFLOW)
class ReversalWorkflow:
    """Ends when the reversal is executed, failed, refused or expired; its row says which."""

    @workflow.init
    def __init__(self, start: messages.ReversalStart) -> None:
        self._start = start
        self._told = False

    @workflow.signal(name=messages.DECIDED)
    def decided(self, approval: str) -> None:
        """Somebody says that the approval is decided: look, if it is the one we wait for."""
        self._told = self._told or approval == self._start.approval

    @workflow.run
    async def run(self, start: messages.ReversalStart) -> str:
        """Drive the reversal to its end; gives its final status."""
        status = await self._wait_for_decision(start)
        if status == "approved":
            status = await workflow.execute_activity(
                messages.EXECUTE,
                start.reversal,
                result_type=str,
                start_to_close_timeout=dt.timedelta(seconds=30),
                heartbeat_timeout=dt.timedelta(seconds=5),
                retry_policy=PATIENT,
            )
        return status

    async def _wait_for_decision(self, start: messages.ReversalStart) -> str:
        pause = FIRST_LOOK
        while True:
            self._told = False
            review = await workflow.execute_activity(
                messages.FOLLOW_APPROVAL,
                start.reversal,
                result_type=messages.Review,
                start_to_close_timeout=dt.timedelta(seconds=10),
                retry_policy=PATIENT,
            )
            if review.status != "awaiting_approval":
                return review.status
            if workflow.info().is_continue_as_new_suggested() and not self._told:
                workflow.continue_as_new(start)
            until_expiry = dt.timedelta(seconds=review.expires_in_s) + EXPIRY_GRACE
            try:
                await workflow.wait_condition(lambda: self._told, timeout=min(pause, until_expiry))
            except TimeoutError:
                pause = min(pause * 2, SLOWEST_LOOK)
