"""A reversal from request to ledger: two people, once, whatever is killed or forged (P12)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest
from temporalio.client import WorkflowExecutionDescription, WorkflowHandle
from temporalio.service import RPCError

from ledger_service.payments import messages, service
from ledger_service.payments.dispatcher import Dispatcher
from ledger_service.stack import probes
from ledger_service.stack.home import free_port
from ledger_service.stack.temporal import TemporalServer
from tests import servers
from tests.integration.payments.conftest import KeepHistory
from tests.integration.payments.surroundings import CHECKER, LEDGER, MAKER, World

pytestmark = pytest.mark.asyncio(loop_scope="module")


@contextlib.contextmanager
def temporal_on(port: int, folder: Path) -> Iterator[None]:
    """A Temporal with an empty memory on a port that is given."""
    server = TemporalServer(folder / "state.db", port, free_port(), free_port())
    server.prepare()
    log = folder / "temporal.log"
    with servers.running(server.command(), log, stop=signal.SIGKILL) as process:
        probe = lambda: probes.grpc_health(server.address, probes.TEMPORAL)  # noqa: E731
        servers.wait_ready(process, log, probe)
        yield


async def until_known(workflow: WorkflowHandle) -> WorkflowExecutionDescription:
    """What Temporal says of a workflow, once it knows it."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(RPCError):
                return await workflow.describe()
            await asyncio.sleep(0.1)


def kill(process) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(5)


async def test_approved_by_another_person_it_is_executed_once(
    world: World, keep_history: KeepHistory
):
    original = await world.post(amount=1000)
    async with world.worker():
        answer = await world.ask(original)
        asked = answer.json()
        assert (answer.status_code, asked["status"]) == (202, "requested")
        await world.until(asked, "awaiting_approval")

        own = await world.decide(asked, who=MAKER)
        assert (own.status_code, own.json()["code"]) == (409, "maker_is_checker")
        assert await world.reversing(original) == []

        assert (await world.decide(asked)).status_code == 200
        done = await world.until(asked, "executed")
        await keep_history(asked, "executed")
    assert [done["executed_seq"]] == await world.reversing(original)
    shown = (await world.request(CHECKER, "GET", f"/v1/approvals/{asked['approval']}")).json()
    assert (shown["status"], shown["consumed_seq"]) == ("consumed", done["executed_seq"])
    steps = [line["step"] for line in done["history"]]
    assert steps == ["requested", "awaiting_approval", "approved", "attempt", "executed"]


async def test_the_same_key_gives_the_same_reversal_and_another_content_is_a_conflict(world: World):
    original = await world.post(amount=500)
    first = await world.ask(original, amount="200", idempotency_key="once")
    again, other = await asyncio.gather(
        world.ask(original, amount="200", idempotency_key="once"),
        world.ask(original, amount="201", idempotency_key="once"),
    )
    assert again.json() == first.json()
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")
    listed = (await world.request(MAKER, "GET", f"/v1/reversals?ledger={LEDGER}")).json()
    assert [one["transaction"] for one in listed["reversals"]].count(original) == 1


async def test_racing_requests_never_ask_for_more_than_is_left(world: World):
    original = await world.post(amount=1000)
    answers = await asyncio.gather(*(world.ask(original, amount="400") for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [202, 202, 409, 409]
    assert {a.json()["code"] for a in answers if a.status_code == 409} == {"reversal_pending"}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"transaction": 10**9}, 404, "unknown_transaction"),
        ({"amount": "1001"}, 422, "reversal_exceeds"),
        ({"amount": "1.5"}, 422, "bad_amount"),
        ({"amount": 5}, 422, "invalid_request"),
        ({"reason": "because"}, 422, "reversal_refused_by_policy"),
        ({"reason": "ssn 123-45-6789"}, 422, "personal_data_refused"),
        ({"idempotency_key": ""}, 422, "invalid_request"),
    ],
)
async def test_a_request_that_cannot_be_is_refused_by_name(world: World, body, status, code):
    original = await world.post(amount=1000)
    answer = await world.ask(**{"transaction": original, **body})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "123-45-6789" not in answer.text


async def test_only_the_permitted_ask_and_a_checker_alone_reads(world: World):
    original = await world.post()
    body = {"transaction": original, "reason": "duplicate"}
    refused = await world.request(CHECKER, "POST", f"/v1/ledgers/{LEDGER}/reversals", json=body)
    assert refused.status_code == 403
    await world.ask(original)
    listed = (await world.request(CHECKER, "GET", f"/v1/reversals?ledger={LEDGER}&limit=1")).json()
    assert [one["transaction"] for one in listed["reversals"]] == [original]
    unknown = await world.request(CHECKER, "GET", "/v1/reversals/rev_none")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_reversal")


async def test_forged_messages_move_nothing_and_a_lost_one_strands_nothing(world: World):
    """P12: who reaches Temporal can signal, and start workflows, as much as they like."""
    original = await world.post()
    client = await world.temporal_client()
    async with world.worker():
        asked = (await world.ask(original)).json()
        await world.until(asked, "awaiting_approval")
        workflow_id = messages.reversal_workflow_id(asked["reversal"])
        handle = client.get_workflow_handle(workflow_id)
        for approval in (asked["approval"], "apr_forged"):
            await handle.signal(messages.DECIDED, approval)
        forged = await client.start_workflow(
            messages.REVERSAL_WORKFLOW,
            messages.ReversalStart(asked["reversal"], asked["approval"]),
            id="forged",
            task_queue=messages.TASK_QUEUE,
        )
        await asyncio.sleep(1)
        assert (await world.reversal(asked))["status"] == "awaiting_approval"
        await forged.terminate()

    # A key of the service asks the ledger itself: the ledger wants an approval that is granted.
    body = {"idempotency_key": "forged", "approval": asked["approval"], "reason": "duplicate",
            "reversal": asked["reversal"]}  # fmt: skip
    path = f"/v1/ledgers/{LEDGER}/transactions/{original}:reverse"
    headers = {"authorization": f"Bearer {world.keys['service']}"}
    early = await world.api.post(path, headers=headers, json=body)
    assert early.json()["code"] == "approval_invalid"
    await world.decide(asked)
    other = await world.api.post(path, headers=headers, json={**body, "amount": "999"})
    assert other.json()["code"] == "approval_invalid"
    assert await world.reversing(original) == []

    # The signal is lost (it is noted as sent): the workflow looks by itself.
    await world.owner.execute(
        "update payments.reversal set told_at = now() where reversal_id = $1", asked["reversal"]
    )
    async with world.worker():
        await world.until(asked, "executed", seconds=45)
    assert len(await world.reversing(original)) == 1


async def test_refused_and_expired_requests_end_and_move_nothing(
    world: World, keep_history: KeepHistory
):
    originals = [await world.post(), await world.post()]
    refused, expired = [(await world.ask(one)).json() for one in originals]
    await world.bring_expiry_near(expired)
    async with world.worker():
        await world.decide(refused, "refuse")
        assert (await world.until(refused, "refused"))["last_error"] is None
        await world.until(expired, "expired")
        await keep_history(expired, "expired")
    late = await world.decide(expired)
    assert (late.status_code, late.json()["code"]) == (409, "approval_expired")
    assert [await world.reversing(one) for one in originals] == [[], []]
    assert (await world.ask(originals[1])).status_code == 202, "it can be asked for again"


async def test_what_the_ledger_refuses_is_recorded_with_its_code(world: World):
    original = await world.post(amount=700)
    balance = await world.balance()
    spent = await world.post(amount=balance, out=True)
    changed = await world.post(amount=50)
    async with world.worker():
        asked = [(await world.ask(one)).json() for one in (original, changed)]
        # Who owns the database changes a row after the request: the approval does not fit any more.
        await world.owner.execute(
            "update payments.reversal set amount = 49 where reversal_id = $1", asked[1]["reversal"]
        )
        ended = []
        for one in asked:
            await world.decide(one)
            ended.append(await world.until(one, "failed"))
    assert [one["last_error"] for one in ended] == ["floor_passed", "approval_invalid"]
    assert await world.reversing(original) == await world.reversing(changed) == []
    assert await world.balance() == 50, f"as after {spent}"


async def test_killed_before_the_ledger_hears_and_before_its_answer_comes(world: World):
    """kill -9 in both windows: the next worker asks before it sends; the net effect is one."""
    unheard, unanswered = originals = [await world.post(), await world.post()]
    wire = world.wire
    wire.lose_requests.add(unheard)
    wire.lose_answers.add(unanswered)
    with world.worker_process() as process:
        asked = [(await world.ask(one)).json() for one in originals]
        for one in asked:
            await world.until(one, "awaiting_approval", seconds=30)
            await world.decide(one)
        await wire.until_lost(*originals)
        kill(process)
    wire.heal()
    assert [(await world.reversal(one))["status"] for one in asked] == ["approved", "approved"]
    assert [len(await world.reversing(one)) for one in originals] == [0, 1]
    with world.worker_process() as process:
        done = [await world.until(one, "executed", seconds=40) for one in asked]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, "drained"
    assert [await world.reversing(one) for one in originals] == [
        [one["executed_seq"]] for one in done
    ]
    assert [wire.sent[one] for one in originals] == [1, 1], "no command reached the ledger twice"


async def test_an_answer_that_is_lost_is_asked_for_not_sent_again(world: World):
    original = await world.post()
    world.wire.lose_answers.add(original)
    async with world.worker():
        asked = (await world.ask(original)).json()
        await world.decide(asked)
        await world.wire.until_lost(original)
        done = await world.until(asked, "executed")
    world.wire.heal()
    assert await world.reversing(original) == [done["executed_seq"]]
    assert world.wire.sent[original] == 1
    assert [line["step"] for line in done["history"]].count("attempt") == 1


async def test_the_worker_waits_for_servers_that_are_away(world: World):
    """With no Temporal it starts, and says what it waits for."""
    away = dataclasses.replace(world, temporal=f"127.0.0.1:{free_port()}")
    async with away.worker() as health, httpx.AsyncClient() as probe:
        address = f"http://127.0.0.1:{health.serve('127.0.0.1', 0)}"
        await asyncio.sleep(0.5)
        live, ready = await probe.get(f"{address}/livez"), await probe.get(f"{address}/readyz")
    assert (live.status_code, ready.status_code) == (200, 503)
    assert ready.json()["waiting_for"] == "temporal"


async def test_with_temporal_wiped_everything_open_goes_on_from_the_tables(
    world: World, folder, monkeypatch
):
    monkeypatch.setattr(service, "LONGEST_WAIT_S", 0.5)  # between two tries to reach it
    port = free_port()
    world = dataclasses.replace(world, temporal=f"127.0.0.1:{port}")
    originals = [await world.post(), await world.post()]
    async with world.worker():
        with temporal_on(port, folder / "first"):
            asked = [(await world.ask(one)).json() for one in originals]
            for one in asked:
                await world.until(one, "awaiting_approval", seconds=20)
        await world.decide(asked[0])
        with temporal_on(port, folder / "second"):
            await world.until(asked[0], "executed", seconds=40)
            client = await world.temporal_client()
            second = client.get_workflow_handle(messages.reversal_workflow_id(asked[1]["reversal"]))
            described = await until_known(second)
            pool = await asyncpg.create_pool(world.database.url("worker"), min_size=1, max_size=2)
            assert await Dispatcher(pool, client).restart_open() >= 1
            await pool.close()
            assert (await second.describe()).run_id == described.run_id, "what runs is left alone"
            await world.decide(asked[1])
            await world.until(asked[1], "executed", seconds=20)
    assert [len(await world.reversing(one)) for one in originals] == [1, 1]


async def test_the_tables_refuse_steps_and_changes_that_must_not_be(world: World):
    await world.ask(await world.post())
    worker = await asyncpg.connect(world.database.url("worker"))
    api = await asyncpg.connect(world.database.url("api"))
    try:
        for connection, table, change in [
            (worker, "payments.reversal", "update {} set status = 'executed', executed_seq = 1"),
            (worker, "payments.reversal", "update {} set amount = 1"),
            (worker, "payments.reversal_event", "update {} set code = 'x'"),
            (worker, "payments.start_outbox", "delete from {}"),
            (worker, "security.approval", "update {} set status = 'approved'"),
            (api, "payments.reversal", "update {} set status = 'approved'"),
            (api, "payments.reversal_event", "delete from {}"),
            (api, "payments.start_outbox", "update {} set started_at = null"),
        ]:
            with pytest.raises(
                (asyncpg.InsufficientPrivilegeError, asyncpg.IntegrityConstraintViolationError)
            ):
                await connection.execute(change.format(table))
    finally:
        await worker.close()
        await api.close()


async def test_temporal_holds_nothing_readable(world: World):
    """What Temporal stores of a workflow names ids only in its own id; the rest is encrypted."""
    original = await world.post()
    client = await world.temporal_client()
    async with world.worker():
        asked = (await world.ask(original)).json()
        await world.until(asked, "awaiting_approval")
        await world.decide(asked)
        await world.until(asked, "executed")
        history = await client.get_workflow_handle(
            messages.reversal_workflow_id(asked["reversal"])
        ).fetch_history()
    stored = b"".join(event.SerializeToString() for event in history.events)
    assert asked["approval"].encode() not in stored
    assert b"awaiting_approval" not in stored
