"""The parts of the local stack, in one table: what each needs, may know, listens on and answers.

Least privilege stands here: a service gets the settings of its line and no other, and the login of
its role. A part is a server (someone else's program), a step (a command that ends) or a service
(ours, from the entry-point group `tallystick.services`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Literal

from ledger_service.stack.errors import StackError

Kind = Literal["server", "step", "service"]


@dataclasses.dataclass(frozen=True)
class Part:
    """One line of the table."""

    name: str
    kind: Kind = "service"
    needs: tuple[str, ...] = ()
    """Parts that must be ready before this one starts."""
    settings: tuple[str, ...] = ()
    """Settings it gets, without the prefix TALLYSTICK_."""
    role: str | None = None
    """Login of its DATABASE_URL; `owner` is the database's owner."""
    kafka: str | None = None
    """Login of its KAFKA_USERNAME."""
    api_key: str | None = None
    """Identity of its API_KEY."""
    ports: tuple[str, ...] = ()
    """Names in ports.json. A name that ends in `.health` serves /livez and /readyz only."""
    commands: tuple[tuple[str, ...], ...] = ()
    """A step's `tally` commands, one after the other."""
    ready_within: float = 60
    """Seconds; the first start of a part with heavy imports on a busy machine takes tens."""
    drains_within: int = 30
    """Seconds from the stop signal to the kill."""
    stop_signal: str = "TERM"
    default: bool = True
    """Whether `tally up` starts it when no names are given."""


_HEALTH = "HEALTH_LISTEN"
_KAFKA = (
    "KAFKA_BOOTSTRAP", "KAFKA_SECURITY", "KAFKA_USERNAME", "KAFKA_PASSWORD", "KAFKA_MECHANISM",
    "KAFKA_CA",
)  # fmt: skip
_PARTS = [
    # PostgreSQL's SIGINT ends sessions and stops cleanly; SIGTERM would wait for them
    Part("postgres", "server", ports=("postgres",), stop_signal="INT", drains_within=60),
    Part("kafka", "server", ports=("kafka", "kafka.brokers", "kafka.controller"), ready_within=180,
         drains_within=60),
    Part("kafka-logins", "step", needs=("kafka",)),
    Part("temporal", "server", ports=("temporal", "temporal.http", "temporal.metrics")),
    Part("database", "step", needs=("postgres",)),
    Part(
        "migrations", "step", needs=("database",), settings=("OWNER_DATABASE_URL", "DATABASE_URL"),
        role="monitor", commands=(("migrate",), ("monitor", "migrate")),
    ),
    Part(
        "identities", "step", needs=("migrations",), role="api",
        commands=(("identities", "provision"),),
        settings=("ENV", "DATABASE_URL", "TOKEN_KEY"),
    ),
    Part(
        "writer", needs=("migrations",), role="writer", ports=("writer", "writer.health"),
        settings=("DATABASE_URL", "LISTEN", _HEALTH, "WRITER_SECRET", "LOG_KEY", "LOG_PUBLIC_KEY"),
    ),
    Part(
        "api", needs=("writer", "identities"), role="api", ports=("api",),
        settings=(
            "ENV", "DATABASE_URL", "LISTEN", "WRITER_SECRET", "VAULT_KEY", "TOKEN_KEY",
            "LOG_PUBLIC_KEY", "WITNESS_PUBLIC_KEY",
        ),
    ),
    Part(
        "relay", needs=("migrations", "kafka-logins"), role="relay", kafka="relay",
        ports=("relay.health",), settings=("DATABASE_URL", *_KAFKA, "KAFKA_REPLICATION", _HEALTH),
    ),
    Part(
        "witness", needs=("api",), api_key="witness", ports=("witness.health",),
        settings=("API_URL", "API_KEY", "WITNESS_KEY", "LOG_PUBLIC_KEY", _HEALTH),
    ),
    Part(
        "verifier", needs=("writer",), role="verifier", ports=("verifier.health",),
        settings=("DATABASE_URL", "LOG_PUBLIC_KEY", "WITNESS_PUBLIC_KEY", _HEALTH),
    ),
    Part("bank", ports=("bank",), settings=("LISTEN", "BANK_SECRET")),
    Part(
        "worker", needs=("api", "temporal"), role="worker", api_key="worker",
        ports=("worker.health",),
        settings=("DATABASE_URL", "TEMPORAL_ADDRESS", "API_URL", "API_KEY", "PAYLOAD_KEY", _HEALTH),
    ),
    Part(
        "dagster-code", "server", needs=("identities",), kafka="pipelines", api_key="pipelines",
        ports=("dagster-code",), ready_within=180,
        settings=(*_KAFKA, "API_URL", "API_KEY", "CONSOLE_URL", "WEBHOOK_SECRET"),
    ),
    # the daemon starts the streaming run at once, so what the run reads has to be there
    Part("dagster-daemon", "server", needs=("dagster-code", "kafka-logins", "api"), ready_within=120),
    Part(
        "dagster-webserver", needs=("dagster-code",), ports=("dagster-webserver",),
        settings=("LISTEN", "DAGSTER_SECRET"), ready_within=180,
    ),
    Part("bi", ports=("bi", "bi.health"), settings=("LISTEN", _HEALTH, "BI_PASSWORD")),
    Part(
        "monitor", needs=("api",), role="monitor", api_key="monitor", ports=("monitor.health",),
        settings=("ENV", "DATABASE_URL", "API_URL", "API_KEY", _HEALTH),
    ),
    Part(
        "console", needs=("api",), role="monitor", ports=("console",),
        settings=(
            "ENV", "DATABASE_URL", "API_URL", "LISTEN", "CONSOLE_URL", "DAGSTER_URL",
            "DAGSTER_SECRET", "LOG_PUBLIC_KEY", "WITNESS_PUBLIC_KEY",
        ),
    ),
]  # fmt: skip
TABLE: dict[str, Part] = {part.name: part for part in _PARTS}

GIVEN_BY_ADDRESS = {
    "postgres": "TALLYSTICK_DATABASE_URL",
    "kafka": "TALLYSTICK_KAFKA_BOOTSTRAP",
    "temporal": "TALLYSTICK_TEMPORAL_ADDRESS",
}
"""Servers that are not started where these settings name one elsewhere."""
GIVEN_WITH_KAFKA = (
    "KAFKA_SECURITY", "KAFKA_USERNAME", "KAFKA_PASSWORD", "KAFKA_MECHANISM", "KAFKA_CA",
    "KAFKA_REPLICATION",
)  # fmt: skip
"""What a Kafka elsewhere is given with: how to reach it, and its administrator's login."""

_API = ("API_URL", "API_KEY")
_BANK = ("BANK_URL", "BANK_SECRET")
_PUBLIC = ("LOG_PUBLIC_KEY", "WITNESS_PUBLIC_KEY")
_COMMANDS = [
    Part("migrate", "step", settings=("OWNER_DATABASE_URL",)),
    Part("monitor", "step", settings=("DATABASE_URL", "API_URL"), role="monitor"),
    Part("identities", "step", settings=("ENV", "DATABASE_URL", "TOKEN_KEY"), role="api"),
    Part(
        "verify", "step", settings=("DATABASE_URL", *_KAFKA, *_PUBLIC), role="verifier",
        kafka="verifier",
    ),
    Part("pack", "step", settings=("DATABASE_URL", *_PUBLIC), role="verifier"),
    Part(
        "replay", "step", settings=("DATABASE_URL", *_KAFKA, "KAFKA_REPLICATION"), role="relay",
        kafka="replay",
    ),
    # these write: they come as the owner
    Part("rebuild", "step", settings=("DATABASE_URL",), role="owner"),
    Part("export", "step", settings=("DATABASE_URL", *_PUBLIC), role="owner"),
    Part("import", "step", settings=("DATABASE_URL",), role="owner"),
    Part("load", "step", settings=(*_API, *_BANK), api_key="integrator"),
    Part("simulate", "step", settings=(*_API, *_BANK), api_key="integrator"),
    Part("statements", "step", settings=(*_API, *_BANK), api_key="bank"),
    Part(
        "pipeline", "step", settings=(*_KAFKA, *_API), kafka="pipelines", api_key="pipelines",
    ),
    Part("snapshot", "step"),
    Part("sql", "step"),
]  # fmt: skip
COMMANDS: dict[str, Part] = {part.name: part for part in _COMMANDS}
"""What commands take from the home of the local stack where the environment does not say it."""


def known() -> dict[str, Part]:
    """The table, and services that other packages register; those start only when named."""
    parts = dict(TABLE)
    for entry in entry_points(group="tallystick.services"):
        if entry.name not in parts:
            parts[entry.name] = Part(
                entry.name, ports=(f"{entry.name}.health",), settings=(_HEALTH,), default=False
            )
    return parts


def chosen(only: Iterable[str], parts: dict[str, Part]) -> list[Part]:
    """The parts to start, in the table's order: those named, with what they need; all if none is.

    Errors: `unknown_part`.
    """
    names = list(only) or [part.name for part in parts.values() if part.default]
    wanted: set[str] = set()
    while names:
        name = names.pop()
        if name not in parts:
            raise StackError("unknown_part", f"There is no {name!r}; there are {', '.join(parts)}.")
        if name not in wanted:
            wanted.add(name)
            names += parts[name].needs
    return [part for part in parts.values() if part.name in wanted]
