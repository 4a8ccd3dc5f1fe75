"""What workflows, activities and the dispatcher say to one another through Temporal.

Only ids, codes and counts: no amounts, no names, nothing personal (P10). A workflow imports this
module and no other of ours, so that no database code gets into it.
"""

from __future__ import annotations

import dataclasses

TASK_QUEUE = "payments"

REVERSAL_WORKFLOW = "Reversal"
DECIDED = "decided"
"""Signal: "look at your approval". It carries the approval's id and decides nothing."""

FOLLOW_APPROVAL = "reversal.follow_approval"
EXECUTE = "reversal.execute"

UNKNOWN_OUTCOME = "UnknownOutcome"
"""Failure type: the ledger's answer did not arrive, so the next attempt begins with a question."""


def reversal_workflow_id(reversal: str) -> str:
    """The one workflow of a reversal."""
    return f"reversal-{reversal}"


@dataclasses.dataclass(frozen=True)
class ReversalStart:
    """All that the workflow of a reversal is told; the rest it asks the tables for."""

    reversal: str
    approval: str


@dataclasses.dataclass(frozen=True)
class Review:
    """Where a reversal stands after its approval was looked at."""

    status: str
    """A status of `reversals.Status`."""
    expires_in_s: float
    """Seconds until the approval can no longer be given; 0 once it is decided or too late."""
