"""`tally run dagster-webserver`: Dagster's pages, read-only, for the console alone.

Dagster knows no persons, so its pages stand behind the console's sign-in: every request and every
websocket must carry the secret that only the console has. `/livez` and `/readyz` are open.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
from dagster import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.version import __version__

from ledger_service.contract import environment, logs
from ledger_service.contract.service import stop_on_signals

PREFIX = "/dagster"
SECRET_HEADER = b"x-tallystick-proxy"
_POLICY_VIOLATION = 1008

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class BehindConsole:
    """Lets through what carries the secret, and probes; refuses everything else unread."""

    def __init__(self, app: App, secret: str) -> None:
        if not secret:
            raise ValueError("TALLYSTICK_DAGSTER_SECRET must not be empty")
        self._app = app
        self._secret = secret.encode()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] == "lifespan" or self._is_from_console(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        elif scope["path"] in ("/livez", "/readyz"):
            await _answer(send, 200, b'{"ready": true}')
        else:
            await _answer(send, 403, b'{"title": "These pages are reached through the console."}')

    def _is_from_console(self, scope: MutableMapping[str, Any]) -> bool:
        given = [value for name, value in scope["headers"] if name == SECRET_HEADER]
        return len(given) == 1 and hmac.compare_digest(given[0], self._secret)


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def workspace_file() -> str:
    """The workspace the stack wrote into the home, else the one of this folder."""
    written = environment.home() / "dagster" / "workspace.yaml"
    return str(written) if written.exists() else "workspace.yaml"


def make_app(context: WorkspaceProcessContext, secret: str) -> App:
    """The guarded application over a workspace."""
    return BehindConsole(create_app_from_workspace_process_context(context, PREFIX), secret)


def main() -> None:
    """Serve until SIGTERM. Errors: `MissingSetting`."""
    logs.configure("dagster-webserver", environment.read("TALLYSTICK_LOG_LEVEL"))
    host, port = environment.host_and_port("TALLYSTICK_LISTEN")
    secret = environment.read("TALLYSTICK_DAGSTER_SECRET")
    target = WorkspaceFileTarget([workspace_file()])
    # uvicorn raises the signal again when it has drained: without a handler that would end the
    # process before the workspace's own processes are closed.
    stop_on_signals()
    with (
        DagsterInstance.get() as instance,
        WorkspaceProcessContext(instance, target, __version__, read_only=True) as context,
    ):
        uvicorn.run(
            make_app(context, secret), host=host, port=port, log_level="warning", access_log=False
        )


if __name__ == "__main__":
    main()
