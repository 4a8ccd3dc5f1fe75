"""`tally run api`: the ledger API on TALLYSTICK_LISTEN, drained on SIGTERM."""

from __future__ import annotations

import gc
import logging

import structlog
import uvicorn
from starlette.datastructures import State

from ledger_service.api.app import create_app
from ledger_service.api.connection import Connection
from ledger_service.contract import environment, failpoints, logs

DRAIN_SECONDS = 20
"""How long requests under way may take after SIGTERM."""


class _Forward(logging.Handler):
    """Lines of libraries in the form of our own, without the exceptions' texts, which may quote
    what a caller sent (P10)."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        error = record.exc_info[0].__qualname__ if record.exc_info and record.exc_info[0] else None
        text = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        structlog.get_logger().warning(
            "api.library_warned", library=record.name, text=text, error=error
        )


class _Server(uvicorn.Server):
    """Says on /readyz that it drains, before it stops taking connections."""

    def __init__(self, config: uvicorn.Config, app_state: State) -> None:
        super().__init__(config)
        self.app_state = app_state

    def handle_exit(self, sig: int, frame: object) -> None:
        """SIGTERM or SIGINT: finish what is begun, take nothing new."""
        self.app_state.draining = True
        super().handle_exit(sig, frame)  # pyright: ignore[reportArgumentType]


def main() -> None:
    """Serve until SIGTERM. Errors: `MissingSetting` and ValueError name the setting."""
    logs.configure("api", environment.read("TALLYSTICK_LOG_LEVEL"))
    failpoints.arm_from_environment()
    host, port = environment.host_and_port("TALLYSTICK_LISTEN")
    root = logging.getLogger()
    root.handlers = [_Forward()]
    root.setLevel(logging.WARNING)
    app = create_app()
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=Connection,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        h11_max_incomplete_event_size=32 * 1024,
    )
    # A request makes and drops hundreds of small objects, few of them in a cycle.
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    _Server(config, app.state).run()
    structlog.get_logger().info("api.stopped")


if __name__ == "__main__":
    main()
