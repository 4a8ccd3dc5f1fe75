"""The service `worker`: runs the payment workflows and their activities, and the dispatcher.

It waits for whatever is not reachable yet, says in `/readyz` what it misses, and on SIGTERM takes
nothing new and finishes the activities that are begun. Killed outright it loses nothing: the next
one goes on from the tables.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import threading
from collections.abc import Awaitable, Callable
from importlib import metadata
from typing import TypeVar

import asyncpg
import structlog
from temporalio.client import Client
from temporalio.converter import DataConverter
from temporalio.service import RPCError
from temporalio.worker import Worker

from ledger_service.contract import environment, logs
from ledger_service.contract.service import Health, stop_on_signals
from ledger_service.payments import messages
from ledger_service.payments.dispatcher import Dispatcher
from ledger_service.payments.ledger_http import LedgerHttp
from ledger_service.payments.payload_codec import data_converter
from ledger_service.payments.reversal_activities import ReversalActivities
from ledger_service.payments.reversal_workflow import ReversalWorkflow

log = structlog.get_logger()

POLL_S = 0.2
"""Pause of the dispatcher when nothing is due: so a decision reaches the ledger within a second."""
CHECK_S = 2.0
LONGEST_WAIT_S = 5.0
DRAIN = dt.timedelta(seconds=15)

NOT_REACHABLE = (OSError, RPCError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""What servers that are away, or on their way up, show as."""

Found = TypeVar("Found")


async def _until_reachable(
    what: str, connect: Callable[[], Awaitable[Found]], health: Health, stop: asyncio.Event
) -> Found | None:
    """What `connect` gives, tried again with growing pauses; None when we are to stop.

    RuntimeError is what Temporal's client raises where it finds no server.
    """
    wait = 0.2
    while not stop.is_set():
        try:
            return await connect()
        except (
            *NOT_REACHABLE,
            RuntimeError,
        ) as error:  # RuntimeError: what Temporal's client raises
            health.report(ready=False, waiting_for=what)
            log.warning("worker.waiting", what=what, error=type(error).__name__, next_try_s=wait)
            await _pause(stop, wait)
            wait = min(wait * 2, LONGEST_WAIT_S)
    return None


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def dispatch(dispatcher: Dispatcher, health: Health, stop: asyncio.Event) -> None:
    """Move due rows until told to stop.

    Everything open is made sure of at the start, after every outage, and whenever Temporal turns
    out to have another memory than before.
    """
    wait, checked, memory, sure_of = POLL_S, 0.0, "", None
    clock = asyncio.get_running_loop().time
    while not stop.is_set():
        try:
            if not checked or clock() - checked > CHECK_S:
                memory, checked = await dispatcher.memory(), clock()
            if memory != sure_of:
                await dispatcher.restart_open()
                sure_of = memory
            moved = await dispatcher.start_due() + await dispatcher.tell_decided()
            health.report(ready=True, waiting_for=None)
            wait = POLL_S
            await _pause(stop, 0 if moved else wait)
        except NOT_REACHABLE as error:
            checked, sure_of = 0.0, None
            health.report(ready=False, waiting_for="database or temporal")
            log.warning("dispatcher.waiting", error=type(error).__name__, next_try_s=wait)
            await _pause(stop, wait)
            wait = min(wait * 2, LONGEST_WAIT_S)


async def _work(client: Client, activities: ReversalActivities, stop: asyncio.Event) -> None:
    """Take tasks until told to stop; then finish what is begun."""
    worker = Worker(
        client,
        task_queue=messages.TASK_QUEUE,
        workflows=[ReversalWorkflow],
        activities=[activities.follow_approval, activities.execute],
        # Named, for otherwise the client reads the code of every module to make a name: seconds.
        build_id=f"tallystick-{metadata.version('tallystick')}",
        max_concurrent_workflow_tasks=5,
        max_concurrent_activities=50,
        graceful_shutdown_timeout=DRAIN,
        # A workflow's next task is kept for the worker that knows it no longer than this: after a
        # kill, others go on at once.
        sticky_queue_schedule_to_start_timeout=dt.timedelta(seconds=1),
    )
    async with worker:
        await stop.wait()


async def serve(converter: DataConverter, health: Health, stop: asyncio.Event) -> None:
    """Everything of the service, until `stop`. Errors: `MissingSetting`."""
    database_url = environment.read("TALLYSTICK_DATABASE_URL")
    address = environment.read("TALLYSTICK_TEMPORAL_ADDRESS")
    namespace = environment.read("TALLYSTICK_TEMPORAL_NAMESPACE")
    ledger = LedgerHttp(
        environment.read("TALLYSTICK_API_URL"), environment.read("TALLYSTICK_API_KEY")
    )
    async with contextlib.AsyncExitStack() as resources:
        resources.push_async_callback(ledger.close)
        pool = await _until_reachable(
            "database",
            lambda: asyncpg.create_pool(database_url, min_size=1, max_size=8),
            health,
            stop,
        )
        if pool is None:
            return
        resources.push_async_callback(pool.close)
        client = await _until_reachable(
            "temporal",
            lambda: Client.connect(address, namespace=namespace, data_converter=converter),
            health,
            stop,
        )
        if client is None:
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_work(client, ReversalActivities(pool, ledger), stop))
            tasks.create_task(dispatch(Dispatcher(pool, client), health, stop))
    log.info("worker.drained")


async def _run(stopped: threading.Event) -> None:
    health, stop = Health(), asyncio.Event()
    converter = data_converter(environment.read("TALLYSTICK_PAYLOAD_KEY"))
    port = health.serve(*environment.host_and_port("TALLYSTICK_HEALTH_LISTEN"))
    log.info("worker.started", health_port=port)
    loop = asyncio.get_running_loop()

    def pass_on() -> None:
        stopped.wait()
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=pass_on, name="stop", daemon=True).start()
    await serve(converter, health, stop)


def main() -> None:
    """Run the service in the foreground."""
    logs.configure("worker", environment.read("TALLYSTICK_LOG_LEVEL"))
    asyncio.run(_run(stop_on_signals()))
