"""The routes that go past the framework keep every promise of the others; a full queue says so."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest
import structlog

from ledger_service.api.app import BODY_MAX_BYTES
from ledger_service.contract.service import Health
from ledger_service.engine import store
from ledger_service.engine.checkpoints import Publisher
from ledger_service.engine.service import WriterService
from ledger_service.engine.writer import LedgerWriter
from tests.integration.engine.test_ledger_routes import LEDGER, A, B, L
from tests.integration.engine.test_ledger_routes import body as transfer
from tests.ledger_api import KEYS, Api
from tests.servers import LedgerDatabase

HOT = (f"{L}/transactions", f"{L}/transactions:batch", f"{L}/commands:batch")


@pytest.fixture
async def writer(
    api: Api, ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[LedgerWriter]:
    """The writer of a ledger with two accounts, behind its real door, in this process."""
    monkeypatch.setenv("TALLYSTICK_LOG_KEY", base64.b64encode(b"l" * 32).decode())
    service = WriterService(
        ledger_database.url("writer"),
        KEYS["TALLYSTICK_WRITER_SECRET"],
        Publisher.from_environment(),
        Health(),
    )
    stop = asyncio.Event()
    running = asyncio.create_task(service.run("127.0.0.1", 0, stop))
    try:
        opened = await api.call("integrator", "POST", "/v1/ledgers", json=LEDGER)
        assert opened.status_code == 201, opened.text
        accounts = {"accounts": [{"account": name, "currency": "USD"} for name in (A, B)]}
        await api.call("integrator", "POST", f"{L}/accounts:batch", json=accounts)
        yield service._writers["simulated"]
    finally:
        stop.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(running, 20)


async def test_a_full_queue_is_429_with_retry_after_and_takes_nothing(
    api: Api, writer: LedgerWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit hangs, the queue fills behind it; when there is room again, all goes through."""
    real, begun, going = store.commit, asyncio.Event(), asyncio.Event()

    async def commit(connection, rows, epoch) -> None:
        begun.set()
        await going.wait()
        await real(connection, rows, epoch)

    monkeypatch.setattr(store, "commit", commit)
    monkeypatch.setattr(
        writer,
        "_limits",
        msgspec.structs.replace(writer._limits, queued_commands=2, overlapping_commands=1),
    )

    def post(key: str) -> asyncio.Task:
        call = api.call("integrator", "POST", HOT[0], json=transfer(key))
        return asyncio.create_task(call)

    committing = post("committing")
    await begun.wait()
    decided = post("decided")
    await asyncio.sleep(0.2)
    queued = [post("queued 1"), post("queued 2")]
    await asyncio.sleep(0.2)
    for path, body in (
        (HOT[0], transfer("refused")),
        (HOT[1], {"transactions": [transfer("refused")]}),
        (HOT[2], {"commands": [{"do": "post", **transfer("refused")}]}),
    ):
        full = await api.call("integrator", "POST", path, json=body)
        assert (full.status_code, full.json()["code"]) == (429, "busy")
        assert full.headers["retry-after"] == "1"
    assert not any(task.done() for task in (committing, decided, *queued))
    going.set()
    answers = await asyncio.gather(committing, decided, *queued)
    assert [answer.status_code for answer in answers] == [201] * 4
    again = await api.call("integrator", "POST", HOT[0], json=transfer("refused"))
    assert again.status_code == 201  # under the same key: nothing had been posted


async def test_what_comes_during_a_commit_goes_into_one_next_batch_and_waits_for_it(
    api: Api, writer: LedgerWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, begun, going = store.commit, asyncio.Event(), asyncio.Event()
    sizes: list[int] = []

    async def commit(connection, rows, epoch) -> None:
        sizes.append(rows.batch.last_seq - rows.batch.first_seq)
        begun.set()
        await going.wait()
        await real(connection, rows, epoch)

    monkeypatch.setattr(store, "commit", commit)
    first = asyncio.create_task(api.call("integrator", "POST", HOT[0], json=transfer("0")))
    await begun.wait()
    later = []
    for number in range(1, 21):
        key = str(number % 16)  # the last five repeat keys of this batch and of the one before
        call = api.call("integrator", "POST", HOT[0], json=transfer(key))
        later.append(asyncio.create_task(call))
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.2)
    assert not any(task.done() for task in (first, *later))
    going.set()
    answers = await asyncio.gather(first, *later)
    assert sizes == [1, 15]
    assert [answer.status_code for answer in answers] == [201] * 16 + [200] * 5
    assert [answer.json()["seq"] for answer in answers[16:]] == [
        answer.json()["seq"] for answer in answers[:5]
    ]
    assert all("idempotent-replayed" in answer.headers for answer in answers[16:])


async def test_a_hot_route_asks_for_caller_permission_and_a_body_of_bearable_size(
    api: Api,
) -> None:
    for path in HOT:
        limit = 32 * BODY_MAX_BYTES if path.endswith("batch") else BODY_MAX_BYTES
        with structlog.testing.capture_logs() as lines:
            for role, content, status, code in (
                ("", b"{}", 401, "unauthenticated"),
                ("auditor", b"{}", 403, "forbidden"),
                ("integrator", b"{", 400, "bad_json"),
                ("integrator", b"{}", 422, "invalid_request"),
                ("integrator", b" " * (limit + 1), 413, "body_too_large"),
            ):
                answer = await api.call(role, "POST", path, content=content)
                assert (answer.status_code, answer.json()["code"]) == (status, code)
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["request_id"] == answer.headers["x-request-id"]
                assert answer.headers["cache-control"] == "no-store"
        template = path.replace("simulated", "{ledger}")
        assert {line["route"] for line in lines if "route" in line} == {template}
        assert len([line for line in lines if line["event"] == "api.request_answered"]) == 5
        assert (await api.call("integrator", "PUT", path)).status_code == 405
    log = await api.call("auditor", "GET", "/v1/audit-log")
    assert [line["outcome"] for line in log.json()["rows"][-2:]] == ["refused"] * 2


async def test_a_balance_is_read_as_by_any_other_route(api: Api, writer: LedgerWriter) -> None:
    with structlog.testing.capture_logs() as lines:
        for role, account, status in (
            ("", A, 401),
            ("auditor", "nobody:at:all", 404),
            ("auditor", A, 200),
        ):
            answer = await api.call(role, "GET", f"{L}/accounts/{account}")
            assert answer.status_code == status
            assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["posted"] == "0"
    answered = [line for line in lines if line["event"] == "api.request_answered"]
    assert {line["route"] for line in answered} == {"/v1/ledgers/{ledger}/accounts/{account}"}
    assert [line["status"] for line in answered] == [401, 404, 200]
    assert (await api.call("integrator", "PUT", f"{L}/accounts/{A}")).status_code == 405
