"""The home: one directory with all local state, its secrets, and its remembered ports.

Secrets are made once, random, one file each, readable by their owner only. Ports are chosen once
and remembered, so that addresses stay the same from one start to the next. Two homes do not
collide: each looks for its ports from a place of its own, and takes only what is free.
"""

from __future__ import annotations

import base64
import dataclasses
import fcntl
import hashlib
import json
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger_service.contract import environment
from ledger_service.contract.snapshots import write_atomically
from ledger_service.stack.errors import StackError

PORTS = range(12_000, 32_000)
"""Below the range from which Linux takes ports of outgoing connections (32768 and up), so that a
service that restarts finds its port again."""

FOLDERS = (
    "supervisor", "logs", "postgres", "kafka", "temporal", "dagster", "warehouse", "landing",
    "snapshots", "reports", "quarantine", "loads", "simulations", "witness", "bank", "bench",
)  # fmt: skip


def is_free(port: int) -> bool:
    """Whether this machine lets us listen on 127.0.0.1:`port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that is free now, from PORTS, at random."""
    while True:
        port = secrets.choice(PORTS)
        if is_free(port):
            return port


def password() -> str:
    """192 random bits that need no quoting in an address or in SQL."""
    return secrets.token_hex(24)


def key() -> str:
    """32 random bytes in base64."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


@dataclasses.dataclass(frozen=True)
class Home:
    """The directory of all local state."""

    path: Path

    @classmethod
    def current(cls) -> Home:
        """The home that TALLYSTICK_HOME names."""
        return cls(environment.home())

    def create(self) -> Home:
        """Make what is missing of the directory. Errors: `home_of_another_user`."""
        self.path.mkdir(parents=True, exist_ok=True)
        if self.path.stat().st_uid != os.geteuid():
            raise StackError(
                "home_of_another_user",
                f"{self.path} belongs to another user; set TALLYSTICK_HOME to a folder of yours.",
            )
        for folder in FOLDERS:
            (self.path / folder).mkdir(exist_ok=True)
        (self.path / "secrets").mkdir(exist_ok=True, mode=0o700)
        return self

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    # secrets

    def secret_file(self, name: str) -> Path:
        """Where the secret `name` is kept, made or not."""
        return self.path / "secrets" / name

    def secret(self, name: str, make: Callable[[], str] = password) -> str:
        """The secret `name`; made now if this home has none yet."""
        path = self.secret_file(name)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._lock():
            try:
                return path.read_text().strip()
            except FileNotFoundError:
                value = make()
            draft = path.with_name(f".{name}.new")
            with os.fdopen(
                os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w"
            ) as file:
                file.write(value + "\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            return value

    # ports

    def ports(self) -> dict[str, int]:
        """The remembered ports by name. Errors: `bad_ports_file`."""
        try:
            ports: dict[str, int] = json.loads((self.path / "ports.json").read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise StackError(
                "bad_ports_file",
                f"{self.path / 'ports.json'} is not JSON ({error}); correct it, or delete it and "
                "new ports are chosen.",
            ) from None
        return ports

    def port(self, name: str) -> int:
        """The port of `name`; chosen among the free ones at the first call, then kept."""
        ports = self.ports()
        if name in ports:
            return ports[name]
        with self._lock():
            ports = self.ports()
            if name not in ports:
                ports[name] = next(
                    port for port in self._candidates() if port not in ports.values()
                )
                text = json.dumps(dict(sorted(ports.items())), indent=1)
                write_atomically(self.path / "ports.json", text.encode())
        return ports[name]

    def address(self, name: str) -> str:
        """`127.0.0.1:` and the port of `name`."""
        return f"127.0.0.1:{self.port(name)}"

    def _candidates(self) -> Iterator[int]:
        """Free ports, from a place that follows from the home's path."""
        digest = hashlib.sha256(str(self.path).encode()).digest()
        blocks = len(PORTS) // 50
        start = int.from_bytes(digest[:8], "big") % blocks * 50
        for step in range(len(PORTS)):
            port = PORTS[(start + step) % len(PORTS)]
            if is_free(port):
                yield port

    @contextmanager
    def _lock(self) -> Iterator[None]:
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
