"""A relay in a process of its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from ledger_service.contract.brokers import Brokers
from tests import servers


def readiness(port: int) -> dict:
    try:
        return json.loads(
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2).read()
        )
    except urllib.error.HTTPError as unready:
        return json.loads(unready.read())
    except OSError:
        return {}


@pytest.fixture
def relay(ledger_database, kafka, free_port, tmp_path):
    """A function that gives a running relay, in a process of its own, and how to ask it."""
    with contextlib.ExitStack() as running:

        def start(brokers: Brokers | None = None) -> subprocess.Popen:
            port = free_port()
            settings = {
                "TALLYSTICK_DATABASE_URL": ledger_database.url("relay"),
                **servers.kafka_settings(brokers or kafka.login("relay")),
                "TALLYSTICK_HEALTH_LISTEN": f"127.0.0.1:{port}",
            }
            command = [sys.executable, "-m", "ledger_service.engine.relay_service"]
            log = tmp_path / "relay.log"
            process = running.enter_context(servers.running(command, log, environment=settings))
            process.readiness = lambda: readiness(port)
            return process

        yield start
