"""Is it ready? One question per kind of server, answered with None (yes) or the reason why not."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from ledger_service.contract.brokers import Brokers
from ledger_service.stack.errors import StackError

Probe = Callable[[], str | None]

TEMPORAL = "temporal.api.workflowservice.v1.WorkflowService"
"""Name under which Temporal's frontend reports its health."""


def tcp(address: str) -> str | None:
    """Somebody listens there."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return None
    except OSError as error:
        return f"{address}: {error.strerror or error}"


def http(url: str) -> str | None:
    """The address answers with 200; a service that is not ready says in its body why."""
    try:
        with urllib.request.urlopen(url, timeout=3):  # noqa: S310 - an address of our own
            return None
    except urllib.error.HTTPError as error:
        return f"{url} answers {error.code}: {error.read(300).decode(errors='replace').strip()}"
    except (OSError, ValueError) as error:
        return f"{url}: {getattr(error, 'reason', error)}"


def figures(url: str) -> dict[str, object]:
    """What a service says of itself in the body of `/readyz`; empty where it says nothing."""
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:  # noqa: S310 - an address of our own
            body = json.loads(answer.read())
    except (OSError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def sql(url: str) -> str | None:
    """The database answers a query."""
    import psycopg

    try:
        with psycopg.connect(url, connect_timeout=3) as connection:
            connection.execute("select 1")
    except psycopg.Error as error:
        return str(error).strip().splitlines()[-1]
    return None


def kafka(brokers: Brokers, seconds: float = 3) -> str | None:
    """A broker lets us in and gives its metadata."""
    closed = tcp(brokers.bootstrap.split(",", maxsplit=1)[0])
    if closed:
        return closed
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    client = AdminClient({**brokers.client(), "log_level": 0}, logger=_silent())
    try:
        return None if client.list_topics(timeout=seconds).brokers else "no broker yet"
    except KafkaException as error:
        return str(error)


def grpc_health(address: str, service: str = "") -> str | None:
    """The standard health service of gRPC says SERVING."""
    closed = tcp(address)
    if closed:
        return closed
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)  # its methods are made at run time
            said = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=3)
        except grpc.RpcError as error:
            return f"{address}: {error.code().name}"  # pyright: ignore[reportAttributeAccessIssue]
    serving = health_pb2.HealthCheckResponse.SERVING
    return None if said.status == serving else f"{address} is not serving"


def wait(
    what: str, probe: Probe, seconds: float, alive: Callable[[], bool] = lambda: True
) -> float:
    """Ask until the answer is yes; gives the seconds it took. Errors: `not_ready`."""
    start = time.monotonic()
    pause = 0.02
    while (reason := probe()) is not None:
        if not alive():
            raise StackError("not_ready", f"{what} ended before it was ready.")
        if time.monotonic() - start > seconds:
            raise StackError("not_ready", f"{what} is not ready after {seconds:.0f} s: {reason}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.25)
    return time.monotonic() - start


def _silent() -> object:
    import logging

    logger = logging.getLogger("tallystick.probe")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger
