"""`tally doctor`: what the machine has and lacks for the local stack."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator

import psutil

from ledger_service.stack import postgres, services
from ledger_service.stack.errors import StackError
from ledger_service.stack.home import Home, is_free
from ledger_service.stack.kafka import server as kafka
from ledger_service.stack.supervision import Supervisor

_DISK_GB = 5
_MEMORY_GB = 4


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    good: bool
    said: str
    remedy: str = ""
    needed: bool = True
    """False for what only tests or some features need."""


def examine(home: Home) -> list[Finding]:
    """Look at everything; nothing is changed."""
    return [*_programs(home), *_machine(home), *_ports(home)]


def _programs(home: Home) -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python 3.11+", sys.version_info >= (3, 11), python, "apt-get install python3")
    try:
        yield Finding(f"Java {kafka.OLDEST_JAVA}+", good=True, said=kafka.java())
    except StackError as error:
        yield Finding(
            f"Java {kafka.OLDEST_JAVA}+", good=False, said=str(error), remedy=kafka.INSTALL_JAVA
        )
    maven = shutil.which("mvn")
    has_jars = (home / "kafka" / "lib" / "pom.sha256").exists()
    yield Finding(
        "Maven",
        maven is not None,
        maven or "no `mvn` command",
        kafka.INSTALL_MAVEN,
        needed=not has_jars,
    )
    compiled = importlib.util.find_spec("ledger_service.engine.lane") is not None
    yield Finding(
        "compiled lane", compiled, "" if compiled else "postings are decided at half the speed",
        "apt-get install gcc libc6-dev python3-dev, then make clean install", needed=False,
    )  # fmt: skip
    chromium = shutil.which("chromium")
    yield Finding(
        "chromium", chromium is not None, chromium or "only browser tests need it",
        "apt-get install chromium", needed=False,
    )  # fmt: skip
    try:
        prefix = postgres.as_ordinary_user()
        said = f"{postgres.binaries()}" + (f", as root by {prefix[0]}" if prefix else "")
        yield Finding("PostgreSQL", good=True, said=said)
    except StackError as error:
        remedy = "apt-get install util-linux adduser"
        yield Finding("PostgreSQL", good=False, said=str(error), remedy=remedy)


def _machine(home: Home) -> Iterator[Finding]:
    place = home.path
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**30
    yield Finding(
        "disk", free >= _DISK_GB, f"{free:.0f} GB free at {place}",
        f"free {_DISK_GB} GB there, or set TALLYSTICK_HOME to a larger disk",
    )  # fmt: skip
    memory = psutil.virtual_memory().available / 2**30
    yield Finding(
        "memory", memory >= _MEMORY_GB, f"{memory:.1f} GB available",
        f"end other programs: the stack uses up to {_MEMORY_GB} GB",
    )  # fmt: skip
    writable = os.access(place, os.W_OK)
    yield Finding(
        "home", writable, f"{home.path}", "set TALLYSTICK_HOME to a directory that you may write"
    )


def _ports(home: Home) -> Iterator[Finding]:
    remembered = home.ports()
    states = Supervisor(home).processes()
    running = {
        port
        for part in services.known().values()
        if states.get(part.name, {}).get("pid")
        for port in part.ports
    }
    taken = [
        f"{port} of {name}"
        for name, port in remembered.items()
        if name not in running and name != "supervisor" and not is_free(port)
    ]
    yield Finding(
        "ports", not taken, ", ".join(taken) + " taken" if taken else "free or ours",
        f"free them, or delete their lines in {home / 'ports.json'}",
    )  # fmt: skip
