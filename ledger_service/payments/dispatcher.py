"""From the tables to Temporal: starts workflows, tells of decisions, starts anew what is open.

The tables say what must run; this loop makes it so, and may be killed or run twice at any place.
Starting is guarded by the workflow's id, telling decides nothing; both are repeated until noted.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping
from typing import Any

import asyncpg
import msgspec
import structlog
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from ledger_service.payments import messages
from ledger_service.payments.reversals import OPEN

log = structlog.get_logger()

BATCH = 50
EXECUTION_TIMEOUT = dt.timedelta(days=60)
"""Of every workflow: far beyond any approval's time. What is still open then is started again."""
_RPC_TIMEOUT = dt.timedelta(seconds=5)
_TASK_TIMEOUT = dt.timedelta(seconds=3)
"""A step of a workflow takes milliseconds; one that a killed worker held goes to another after this."""

_ARGUMENTS: dict[str, type] = {messages.REVERSAL_WORKFLOW: messages.ReversalStart}


class Dispatcher:
    """Moves what the tables hold towards Temporal."""

    def __init__(self, pool: asyncpg.Pool, client: Client) -> None:
        self._pool = pool
        self._client = client

    async def memory(self) -> str:
        """Names what Temporal remembers by: another name than before means that it was wiped.

        It is the id that the namespace got when it was registered. Errors: `RPCError`.
        """
        asked = DescribeNamespaceRequest(namespace=self._client.namespace)
        answer = await self._client.workflow_service.describe_namespace(asked, timeout=_RPC_TIMEOUT)
        return answer.namespace_info.id

    async def start_due(self) -> int:
        """Start the workflows of new outbox rows; gives how many rows were dealt with.

        A row whose workflow exists already (we died after starting it) is only noted as started.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(
                "select workflow_id, workflow_type, argument from payments.start_outbox "
                "where started_at is null order by written_at limit $1 for update skip locked",
                BATCH,
            )
            await asyncio.gather(
                *(self._start(row, WorkflowIDReusePolicy.REJECT_DUPLICATE) for row in rows)
            )
            await connection.execute(
                "update payments.start_outbox set started_at = clock_timestamp() "
                "where workflow_id = any($1)",
                [row["workflow_id"] for row in rows],
            )
        return len(rows)

    async def tell_decided(self) -> int:
        """Tell the workflows whose approval was decided to look at it; gives how many."""
        rows = await self._pool.fetch(
            "select r.reversal_id, r.approval_id from payments.reversal r "
            "join security.approval a using (approval_id) "
            "join payments.start_outbox o on o.workflow_id = 'reversal-' || r.reversal_id "
            "where r.status = any($1) and r.told_at is null and a.status <> 'pending' "
            "and o.started_at is not null limit $2",
            OPEN,
            BATCH,
        )
        await asyncio.gather(*(self._tell(row["reversal_id"], row["approval_id"]) for row in rows))
        return len(rows)

    async def restart_open(self) -> int:
        """Make sure that everything open in the tables runs; gives how many it looked at.

        Needed when Temporal has lost its memory, or a workflow was ended by hand or by a timeout;
        where the workflow runs, nothing happens.
        """
        rows = await self._pool.fetch(
            "select o.workflow_id, o.workflow_type, o.argument from payments.start_outbox o "
            "join payments.reversal r on o.workflow_id = 'reversal-' || r.reversal_id "
            "where o.started_at is not null and r.status = any($1) order by o.written_at",
            OPEN,
        )
        for first in range(0, len(rows), BATCH):
            batch = rows[first : first + BATCH]
            await asyncio.gather(*(self._restart(row) for row in batch))
        if rows:
            log.info("dispatcher.open_restarted", looked_at=len(rows))
        return len(rows)

    async def _start(self, row: Mapping[str, Any], reuse: WorkflowIDReusePolicy) -> None:
        argument = msgspec.json.decode(row["argument"], type=_ARGUMENTS[row["workflow_type"]])
        try:
            await self._client.start_workflow(
                row["workflow_type"],
                argument,
                id=row["workflow_id"],
                task_queue=messages.TASK_QUEUE,
                execution_timeout=EXECUTION_TIMEOUT,
                id_reuse_policy=reuse,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                task_timeout=_TASK_TIMEOUT,
                rpc_timeout=_RPC_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            log.info("dispatcher.already_started", workflow=row["workflow_id"])

    async def _restart(self, row: Mapping[str, Any]) -> None:
        await self._start(row, WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY)

    async def _tell(self, reversal: str, approval: str) -> None:
        workflow_id = messages.reversal_workflow_id(reversal)
        try:
            handle = self._client.get_workflow_handle(workflow_id)
            await handle.signal(messages.DECIDED, approval, rpc_timeout=_RPC_TIMEOUT)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            # Temporal does not know it, the tables call it open: it starts anew, and looks first.
            row = await self._pool.fetchrow(
                "select workflow_id, workflow_type, argument from payments.start_outbox "
                "where workflow_id = $1",
                workflow_id,
            )
            await self._restart(row)
        await self._pool.execute(
            "update payments.reversal set told_at = clock_timestamp() where reversal_id = $1",
            reversal,
        )
