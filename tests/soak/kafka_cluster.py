"""Three Kafka brokers over TLS, each topic in three copies of which two must confirm.

`make test-cluster`. The relay publishes while brokers are killed -9: one, and it goes on; two, and it
acknowledges nothing, says so, and goes on once they are back. In the end Kafka is the journal.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from psycopg.rows import dict_row

from ledger_service.contract import topics
from ledger_service.contract.brokers import Brokers, refusal
from ledger_service.contract.events import encode
from ledger_service.engine.relay import Publisher
from ledger_service.engine.sources import Source
from ledger_service.engine.topic_settings import ensure_topic
from ledger_service.engine.verification.kafka import check_kafka
from ledger_service.engine.verification.report import Report
from ledger_service.stack import services, settings
from ledger_service.stack.home import Home, free_port
from ledger_service.stack.kafka.server import KafkaServer
from tests import ledger_events, servers
from tests.integration.relay.conftest import readiness
from tests.integration.relay.test_relay import read_topic
from tests.soak.beside import Beside

LEDGER = "clustered"
TOPIC = topics.journal_topic(LEDGER)
EVENTS = 40_000
SECONDS = 240
"""What recovery may take on a busy machine: elections, sessions that lapse, retries of half a minute."""


def wait_for(what: str, condition: Callable[[], Any], seconds: float = SECONDS) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"waited too long: {what}"
        time.sleep(0.2)
    print(f"{what} ({seconds - (end - time.monotonic()):.0f} s)", flush=True)
    return found


def certificate(folder: Path) -> tuple[Path, Path]:
    """A key with its certificate for 127.0.0.1, and the certificate alone, which is its own authority."""
    from ipaddress import ip_address

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "brokers of a test")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    ours, authority = folder / "broker.pem", folder / "authority.pem"
    ours.write_bytes(secret + signed)
    authority.write_bytes(signed)
    return ours, authority


class Cluster:
    """Three brokers that are their own controllers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        keys, self.authority = certificate(folder)
        ports = [[free_port() for _ in range(3)] for _ in range(3)]
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, (_, _, port) in enumerate(ports, 1))
        three = {
            "controller.quorum.voters": voters,
            "listener.security.protocol.map": "CLIENTS:SASL_SSL,BROKERS:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
            "listener.name.clients.ssl.keystore.type": "PEM",
            "listener.name.clients.ssl.keystore.location": str(keys),
            # over TLS the administrator, too, comes where clients come
            "listener.name.clients.sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
            "listener.name.clients.plain.sasl.jaas.config": (
                "org.apache.kafka.common.security.plain.PlainLoginModule required "
                'user_admin="admin";'
            ),
            "default.replication.factor": "3",
            "min.insync.replicas": "2",
            "offsets.topic.replication.factor": "3",
            "transaction.state.log.replication.factor": "3",
            "transaction.state.log.min.isr": "2",
        }
        first = KafkaServer(folder / "1", servers.JARS, *ports[0], str)
        self._servers = {
            node: KafkaServer(
                folder / str(node), servers.JARS, *own, str, {**three, "node.id": str(node)},
                cluster=first.cluster, jvm_options=servers.QUICK_JAVA,
            )
            for node, own in enumerate(ports, 1)
        }  # fmt: skip
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._running = contextlib.ExitStack()
        self.bootstrap = ",".join(server.bootstrap for server in self._servers.values())
        self.admin = Brokers(
            self.bootstrap, "SASL_SSL", "admin", "admin", "PLAIN", str(self.authority)
        )

    def __enter__(self) -> Self:
        for node, server in self._servers.items():
            server.prepare()
            self.start(node)
        self.wait_until_up(*self._servers)
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def start(self, node: int) -> None:
        log = self._folder / f"{node}.log"
        running = servers.running(self._servers[node].command(), log, stop=signal.SIGKILL)
        self._processes[node] = self._running.enter_context(running)

    def kill(self, node: int) -> None:
        self._processes[node].kill()
        self._processes[node].wait()

    def wait_until_up(self, *nodes: int) -> None:
        for node in nodes:
            wait_for(f"broker {node} is up", lambda node=node: self._servers[node].probe() is None)

    def partition(self) -> tuple[int, set[int]]:
        """Leader of the topic's partition, and the brokers that are in sync; as the cluster says."""
        try:
            found = AdminClient({**self.admin.client(), "log_level": 0}).list_topics(
                TOPIC, timeout=10
            )
        except KafkaException:
            return -1, set()
        one = found.topics[TOPIC].partitions.get(0)
        return (one.leader, set(one.isrs)) if one else (-1, set())


class Feed(Beside):
    """Puts events into the journal, as the writer would, until it is stopped."""

    def __init__(self, url: str) -> None:
        super().__init__(0.2)
        self.events = ledger_events.history(LEDGER, EVENTS)
        self.stored = 0
        self._url = url

    def step(self) -> None:
        """Twenty more, as long as there are any."""
        if batch := self.events[self.stored : self.stored + 20]:
            ledger_events.store_journal(self._url, batch)
            self.stored += len(batch)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


@pytest.fixture
def relay_at(
    home: Home, ledger_database: servers.LedgerDatabase, tmp_path: Path
) -> Iterator[Callable[[], Callable[[], dict[str, Any]]]]:
    """Starts the relay with the settings that the home gives it; gives how to ask for its figures."""
    with contextlib.ExitStack() as running:

        def start() -> Callable[[], dict[str, Any]]:
            port = free_port()
            environment = {
                **settings.of(home, services.TABLE["relay"]),
                "TALLYSTICK_DATABASE_URL": ledger_database.url("relay"),
                "TALLYSTICK_HEALTH_LISTEN": f"127.0.0.1:{port}",
            }
            command = [sys.executable, "-m", "ledger_service.engine.relay_service"]
            log = tmp_path / "relay.log"
            running.enter_context(servers.running(command, log, environment=environment))
            return lambda: readiness(port).get("sources", {}).get(TOPIC, {"seq": 0, "lag": 0})

        yield start


def tally(home: Home, *arguments: str, **given: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ledger_service.stack.cli", *arguments],
        env={**os.environ, "TALLYSTICK_HOME": str(home.path), **given},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_brokers_are_killed_while_the_relay_publishes(
    ledger_database, home: Home, relay_at, tmp_path: Path
) -> None:
    with Cluster(tmp_path) as cluster, Feed(ledger_database.owner_url) as feed:
        # docs/operations.md, On a Kafka cluster
        tally(
            home, "up", "kafka-logins",
            **servers.kafka_settings(cluster.admin),
            TALLYSTICK_KAFKA_MECHANISM="PLAIN", TALLYSTICK_KAFKA_REPLICATION="3",
        )  # fmt: skip
        tally(home, "down")
        relay = relay_at()
        wait_for("the relay publishes", lambda: relay()["seq"] > 100)
        leader, in_sync = wait_for(
            "three are in sync", lambda: (found := cluster.partition())[1] == {1, 2, 3} and found
        )

        cluster.kill(leader)
        before = relay()["seq"]
        wait_for(
            "without its leader the relay goes on",
            lambda: relay()["seq"] > before + 500 and relay()["state"] == "publishing",
        )
        others, now_in_sync = cluster.partition()
        assert others != leader
        assert now_in_sync == in_sync - {leader}
        cluster.start(leader)
        cluster.wait_until_up(leader)
        wait_for("it is in sync again", lambda: cluster.partition()[1] == {1, 2, 3})

        gone = sorted({1, 2, 3} - {leader})
        for node in gone:
            cluster.kill(node)
        said = wait_for(
            "the relay says so",
            lambda: (now := relay()).get("alarm") == "kafka_not_answering" and now,
        )
        assert "Nothing is lost" in said["detail"]
        stood, lag = said["seq"], said["lag"]
        time.sleep(10)
        assert relay()["seq"] == stood, "nothing is acknowledged that one broker alone holds"
        assert relay()["lag"] > lag
        for node in gone:
            cluster.start(node)
        cluster.wait_until_up(*gone)
        wait_for("with them it goes on", lambda: relay()["seq"] > stood + 500)

        feed.__exit__()
        wait_for("it has caught up", lambda: relay()["seq"] == feed.stored)
        assert relay()["alarm"] is None
        verifier = settings.brokers(home, "verifier")
        published = [(event.seq, encode(event)) for event in feed.events[: feed.stored]]
        assert read_topic(verifier, TOPIC) == published
        print(f"{feed.stored} events, Kafka = journal", flush=True)

        rows: Any = dict_row
        report = Report()
        with psycopg.connect(ledger_database.url("verifier"), row_factory=rows) as connection:
            check_kafka(connection, report, verifier, LEDGER)
        assert report.findings == []
        # a topic in three copies is held to them
        again = Publisher(
            Source(LEDGER, "journal"), database_url=ledger_database.url("relay"),
            brokers=settings.brokers(home, "relay"), replication=3,
        )  # fmt: skip
        again.open()
        assert again.position == feed.stored
        again.close()

        stranger = dataclasses.replace(settings.brokers(home, "relay"), ca="")
        with pytest.raises(KafkaException) as caught:
            ensure_topic(stranger, Source(LEDGER, "journal"), 3)
        assert refusal(caught.value).code == "kafka_not_trusted"
