"""Histories of released workflows replay: a change that would break running ones fails here.

The files hold what Temporal stored of runs on test data, payloads encrypted with the tests' key.
New ones: pytest tests/integration/payments --record-histories. Old ones stay as long as such
workflows may still run.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from ledger_service.payments import messages
from ledger_service.payments.payload_codec import data_converter
from ledger_service.payments.reversal_workflow import ReversalWorkflow
from tests.integration.payments.surroundings import PAYLOAD_KEY

HISTORIES = sorted(Path(__file__).parent.glob("*.json"))


def recorded(file: Path) -> WorkflowHistory:
    """A history; the file's name is case and workflow id, for payloads are bound to the id."""
    return WorkflowHistory.from_json(file.stem.partition(".")[2], file.read_text())


def replayer(kind: type) -> Replayer:
    return Replayer(workflows=[kind], data_converter=data_converter(PAYLOAD_KEY), build_id="replay")


def test_there_are_histories_of_both_ends():
    assert {file.stem.partition(".")[0] for file in HISTORIES} >= {"executed", "expired"}


@pytest.mark.parametrize("file", HISTORIES, ids=lambda file: file.stem.partition(".")[0])
async def test_a_recorded_history_replays(file: Path):
    await replayer(ReversalWorkflow).replay_workflow(recorded(file))


async def test_a_workflow_that_would_act_otherwise_is_found_out():
    with pytest.raises(workflow.NondeterminismError):
        await replayer(Hasty).replay_workflow(recorded(HISTORIES[0]))


@workflow.defn(name=messages.REVERSAL_WORKFLOW, sandboxed=False)
class Hasty:
    """Executes without waiting for anybody."""

    @workflow.signal(name=messages.DECIDED)
    def decided(self, approval: str) -> None:
        """Ignored."""

    @workflow.run
    async def run(self, start: messages.ReversalStart) -> str:
        return await workflow.execute_activity(
            messages.EXECUTE,
            start.reversal,
            result_type=str,
            start_to_close_timeout=dt.timedelta(seconds=30),
        )
