"""What every service has in common: it says whether it lives and is ready, and it drains on SIGTERM.

A service that speaks no HTTP of its own serves `/livez` and `/readyz` with `Health`: live while its
process answers, ready when it says so, with figures of its own in the body (positions, lag).
"""

from __future__ import annotations

import json
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType
from typing import Any


class Health:
    """State of a service for probes. `report` may be called from any thread."""

    def __init__(self) -> None:
        self._ready = False
        self._figures: dict[str, Any] = {}

    def report(self, *, ready: bool, **figures: Any) -> None:
        """Say whether work can be taken; `figures` replace those of the same name."""
        self._figures = {**self._figures, **figures}
        self._ready = ready

    def serve(self, host: str, port: int) -> int:
        """Answer probes from a thread of its own; gives the port (for port 0, the one chosen)."""
        health = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path not in ("/livez", "/readyz"):
                    self.send_error(404)
                    return
                ready = health._ready or self.path == "/livez"
                body = json.dumps({"ready": health._ready, **health._figures}).encode()
                self.send_response(200 if ready else 503)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Probes come every second; their lines would bury the others."""

        server = ThreadingHTTPServer((host, port), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
        return server.server_address[1]


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set: finish what is begun, take nothing new, exit 0."""
    stop = threading.Event()

    def handle(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop
