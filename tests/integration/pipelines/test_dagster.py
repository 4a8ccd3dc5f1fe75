"""Dagster's pages behind the console, and a streaming run that publishes within seconds."""

from __future__ import annotations

import asyncio

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from tests.integration.pipelines.conftest import LEDGER

SECRET = "the console's own"


@pytest.fixture(scope="module")
def pages():
    # Imported late: it takes seconds, which a process that only collects these tests can spare.
    import dagster as dg
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import EmptyWorkspaceTarget

    from pipelines.webserver import make_app

    with (
        dg.instance_for_test() as instance,
        WorkspaceProcessContext(instance, EmptyWorkspaceTarget(), read_only=True) as context,
        TestClient(make_app(context, SECRET)) as client,
    ):
        yield client


def test_only_the_console_reaches_the_pages(pages):
    assert pages.get("/livez").status_code == pages.get("/readyz").status_code == 200
    for path in ("/", "/dagster/", "/dagster/graphql", "/dagster/server_info", "/livez/../dagster"):
        assert pages.get(path).status_code == 403
        assert pages.get(path, headers={"X-Tallystick-Proxy": "guess"}).status_code == 403
    ours = {"X-Tallystick-Proxy": SECRET}
    assert pages.get("/dagster/server_info", headers=ours).status_code == 200
    assert "dagster" in pages.get("/dagster/", headers=ours).text.lower()
    with pytest.raises(WebSocketDisconnect) as closed, pages.websocket_connect("/dagster/graphql"):
        pass
    assert closed.value.code == 1008
    with pages.websocket_connect("/dagster/graphql", ["graphql-ws"], headers=ours) as socket:
        socket.send_json({"type": "connection_init"})
        assert socket.receive_json()["type"] == "connection_ack"


def test_two_headers_or_an_empty_secret_open_nothing():
    from pipelines.webserver import BehindConsole

    with pytest.raises(ValueError, match="TALLYSTICK_DAGSTER_SECRET"):
        BehindConsole(lambda *_: None, "")
    sent = []

    async def send(message):
        sent.append(message)

    header = (b"x-tallystick-proxy", SECRET.encode())
    scope = {"type": "http", "path": "/dagster/", "headers": [header, (header[0], b"other")]}
    asyncio.run(BehindConsole(None, SECRET)(scope, None, send))
    assert sent[0]["status"] == 403


def test_the_pages_are_read_only(pages):
    launch = """mutation { launchRun(executionParams: {selector: {repositoryLocationName: "x",
        repositoryName: "x", jobName: "stream"}, mode: "default"}) { __typename } }"""
    answer = pages.post(
        "/dagster/graphql", json={"query": launch}, headers={"X-Tallystick-Proxy": SECRET}
    )
    assert answer.json()["data"]["launchRun"]["__typename"] == "UnauthorizedError"


def test_the_streaming_run_publishes_what_is_posted_meanwhile(world):
    assert not any(one.publication.blocked_by for one in world.rounds)
    head = world.oracle.events[LEDGER][-1].seq
    published = [
        (name, manifest.as_of[LEDGER])
        for one in world.rounds
        for name, manifest in one.publication.manifests.items()
    ]
    assert published == [
        ("general", head - 1), ("restricted", head - 1), ("general", head), ("restricted", head),
    ]  # fmt: skip
    assert [one.events for one in world.rounds[2:]] == [1, 1]
    assert world.progress.published == world.progress.landed
