"""The servers of a home: how each is prepared, run, and asked whether it is ready."""

from __future__ import annotations

from ledger_service.contract.brokers import Brokers
from ledger_service.stack import dagster_servers, probes, settings
from ledger_service.stack.home import Home
from ledger_service.stack.kafka.server import ADMIN, KafkaServer
from ledger_service.stack.postgres import PostgresServer
from ledger_service.stack.services import GIVEN_BY_ADDRESS, Part
from ledger_service.stack.temporal import TemporalServer


def postgres(home: Home) -> PostgresServer:
    """The home's PostgreSQL."""
    home.secret("postgres")
    return PostgresServer(
        home / "postgres" / "data", home.port("postgres"), home.secret_file("postgres")
    )


def kafka(home: Home) -> KafkaServer:
    """The home's Kafka."""
    return KafkaServer(
        home / "kafka",
        home / "kafka" / "lib",
        home.port("kafka"),
        home.port("kafka.brokers"),
        home.port("kafka.controller"),
        lambda name: home.secret(f"kafka_{name}"),
    )


def kafka_admin(home: Home) -> Brokers:
    """Kafka, here or elsewhere, as whoever makes logins and gives rights."""
    if settings.given(home, "kafka"):
        return settings.given_brokers(home)
    return kafka(home).known(ADMIN)


def temporal(home: Home) -> TemporalServer:
    """The home's Temporal."""
    return TemporalServer(
        home / "temporal" / "state.db",
        home.port("temporal"),
        home.port("temporal.http"),
        home.port("temporal.metrics"),
    )


def prepare(home: Home, part: Part) -> None:
    """Make what a server needs before its first start; a service of ours needs nothing."""
    match part.name:
        case "postgres":
            postgres(home).prepare()
        case "kafka":
            kafka(home).prepare()
        case "temporal":
            temporal(home).prepare()
        case "dagster-code" | "dagster-daemon" | "dagster-webserver":
            dagster_servers.prepare(home)


def command(home: Home, part: Part) -> list[str]:
    """A server's command, to be run in the place of this process."""
    match part.name:
        case "postgres":
            return postgres(home).command()
        case "kafka":
            return kafka(home).command()
        case "temporal":
            return temporal(home).command()
        case "dagster-code":
            return dagster_servers.code_server_command(home)
        case "dagster-daemon":
            return dagster_servers.daemon_command(home)
    raise ValueError(f"{part.name} is no server")


def probe(home: Home, part: Part) -> str | None:
    """None where the part is ready, else the reason why not."""
    elsewhere = settings.given(home, part.name)
    return _probe_elsewhere(home, part, elsewhere) if elsewhere else _probe_here(home, part)


def _probe_elsewhere(home: Home, part: Part, address: str) -> str | None:
    match part.name:
        case "postgres":
            return probes.sql(address)
        case "kafka":
            return probes.kafka(settings.given_brokers(home))
    return probes.grpc_health(address, probes.TEMPORAL)


def _probe_here(home: Home, part: Part) -> str | None:
    match part.name:
        case "postgres":
            return postgres(home).probe()
        case "kafka":
            return kafka(home).probe()
        case "temporal":
            return temporal(home).probe()
        case "dagster-code":
            return probes.grpc_health(home.address("dagster-code"), "DagsterApi")
        case "dagster-daemon":
            return dagster_servers.daemon_probe(home)
    return probes.http(readiness_url(home, part))


def readiness_url(home: Home, part: Part) -> str:
    """Where a service of ours answers `/readyz`: the port of its own, or the one for probes."""
    health = [name for name in part.ports if name.endswith(".health")]
    return f"http://{home.address(health[0] if health else part.ports[0])}/readyz"


def is_elsewhere(home: Home, part: Part) -> bool:
    """Whether this server is given by address, and so not started here."""
    return part.name in GIVEN_BY_ADDRESS and settings.given(home, part.name) is not None
