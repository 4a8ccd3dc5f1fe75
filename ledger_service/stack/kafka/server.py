"""Start one Kafka broker: jars, format, configuration, command."""

from __future__ import annotations

import base64
import dataclasses
import fcntl
import functools
import hashlib
import re
import shutil
import subprocess
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from ledger_service.contract.brokers import Brokers
from ledger_service.contract.snapshots import write_atomically
from ledger_service.stack import probes
from ledger_service.stack.errors import StackError

BROKER, ADMIN, PROBE = "broker", "admin", "probe"
"""Known at the brokers' own port: the brokers and `ADMIN` may all, `PROBE` nothing."""
_HERE = Path(__file__).parent
POM = _HERE / "pom.xml"
"""Kafka's jars."""
OLDEST_JAVA = 17
INSTALL_JAVA = "apt-get install default-jre-headless"
INSTALL_MAVEN = "apt-get install maven"
_ELSEWHERE = "or give a broker's address in TALLYSTICK_KAFKA_BOOTSTRAP"


@functools.cache
def java() -> str:
    """The `java` to use. Errors: `no_java`, also where it is older than Kafka needs."""
    found = shutil.which("java")
    if found is None:
        raise StackError(
            "no_java", f"Kafka needs Java {OLDEST_JAVA} or newer: {INSTALL_JAVA}, {_ELSEWHERE}."
        )
    said = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(?:1\.)?(\d+)', said)
    if version is None or int(version[1]) < OLDEST_JAVA:
        raise StackError(
            "no_java",
            f"{found} is {version[1] if version else 'of an unknown version'}, and Kafka needs "
            f"Java {OLDEST_JAVA} or newer: {INSTALL_JAVA}, {_ELSEWHERE}.",
        )
    return found


def _version(pom: Path) -> str:
    return hashlib.sha256(pom.read_bytes()).hexdigest()


def _have_jars(lib: Path, pom: Path) -> bool:
    """Whether all jars of this version of the pom are in `lib`: the mark is written last."""
    mark = lib / "pom.sha256"
    return mark.exists() and mark.read_text() == _version(pom)


def maven(lib: Path, pom: Path = POM) -> str | None:
    """The Maven to bring jars with; None where `lib` has them already. Errors: `no_maven`."""
    if _have_jars(lib, pom):
        return None
    found = shutil.which("mvn")
    if found is None:
        raise StackError("no_maven", f"Kafka's jars come by Maven: {INSTALL_MAVEN}, {_ELSEWHERE}.")
    return found


def fetch_jars(lib: Path, pom: Path = POM) -> None:
    """Bring what a pom names into `lib` by Maven, once per version of the pom; one caller at a time.

    Errors: `no_maven`, `maven_failed`.
    """
    if _have_jars(lib, pom):
        return
    lib.parent.mkdir(parents=True, exist_ok=True)
    with lib.with_name("lib.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if bringer := maven(lib, pom):
            _bring(bringer, lib, pom)


def _bring(bringer: str, lib: Path, pom: Path) -> None:
    shutil.rmtree(lib, ignore_errors=True)
    lib.mkdir()
    done = subprocess.run(
        [
            bringer, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies",
            f"-DoutputDirectory={lib}",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        raise StackError("maven_failed", f"Maven could not bring the jars; try again:\n{tail}")
    write_atomically(lib / "pom.sha256", _version(pom).encode())


@dataclasses.dataclass(frozen=True)
class KafkaServer:
    """One broker that is its own controller. Nobody gets in without a login, and nothing is allowed
    that `rights` does not grant.

    Clients come to `port` by SCRAM. The brokers' own port, and the controllers', know by PLAIN
    whoever must get in before there are logins: the brokers, who `ADMIN` is, and who only asks
    whether they are up.
    """

    folder: Path
    lib: Path
    port: int
    brokers_port: int
    controller_port: int
    password: Callable[[str], str]
    """Of each of `BROKER`, `ADMIN` and `PROBE`."""
    properties: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    """What differs from one broker alone."""
    cluster: str = dataclasses.field(
        default_factory=lambda: base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    )
    """Id that all brokers of a cluster are formatted with."""
    jvm_options: tuple[str, ...] = ("-Xmx512m", "-XX:+UseSerialGC")

    @property
    def bootstrap(self) -> str:
        """host:port for clients."""
        return f"127.0.0.1:{self.port}"

    def known(self, name: str) -> Brokers:
        """`ADMIN` or `PROBE` at the brokers' own port."""
        return Brokers(
            f"127.0.0.1:{self.brokers_port}", "SASL_PLAINTEXT", name, self.password(name), "PLAIN"
        )

    def probe(self) -> str | None:
        """None once the broker answers, else the reason why not."""
        return probes.kafka(self.known(PROBE))

    def prepare(self) -> None:
        """Bring the jars, write the configuration, format the log directory at the first start."""
        java()
        fetch_jars(self.lib)
        self.folder.mkdir(parents=True, exist_ok=True)
        # the configuration holds passwords, and the log all events
        self.folder.chmod(0o700)
        text = "".join(f"{name}={value}\n" for name, value in self._settings().items())
        write_atomically(self.folder / "server.properties", text.encode())
        if not (self.folder / "data" / "meta.properties").exists():
            self._format()

    def _settings(self) -> dict[str, str]:
        ports = {
            "CLIENTS": self.port,
            "BROKERS": self.brokers_port,
            "CONTROLLER": self.controller_port,
        }
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items()),
            "listener.security.protocol.map": ",".join(f"{name}:SASL_PLAINTEXT" for name in ports),
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "inter.broker.listener.name": "BROKERS",
            "listener.name.clients.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.clients.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            "listener.name.brokers.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.brokers.plain.sasl.jaas.config": self._plain(BROKER, ADMIN, PROBE),
            "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.controller.plain.sasl.jaas.config": self._plain(BROKER),
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "sasl.mechanism.controller.protocol": "PLAIN",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "false",
            "super.users": f"User:{BROKER};User:{ADMIN}",
            "log.dirs": str(self.folder / "data"),
            "auto.create.topics.enable": "false",
            "num.partitions": "1",
            # topics are kept for ever: the journal's copy does not age
            "log.retention.ms": "-1",
            # one node: the defaults ask for three
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            **self.properties,
        }

    def _plain(self, *names: str) -> str:
        """Who is known by PLAIN; a broker itself comes as `BROKER`."""
        users = "".join(f' user_{name}="{self.password(name)}"' for name in names)
        return (
            "org.apache.kafka.common.security.plain.PlainLoginModule required "
            f'username="{BROKER}" password="{self.password(BROKER)}"{users};'
        )

    def command(self) -> list[str]:
        """The broker in the foreground; SIGTERM stops it cleanly."""
        return self._java("kafka.Kafka", str(self.folder / "server.properties"))

    def _java(self, *arguments: str) -> list[str]:
        log = f"-Dlog4j2.configurationFile={_HERE / 'log4j2.xml'}"
        return [java(), *self.jvm_options, log, "-cp", f"{self.lib}/*", *arguments]

    def _format(self) -> None:
        properties = str(self.folder / "server.properties")
        # `=`: an id may start with a dash
        arguments = [
            "format",
            f"--cluster-id={self.cluster}",
            "-c",
            properties,
            "--ignore-formatted",
        ]
        done = subprocess.run(
            self._java("-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", *arguments),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StackError(
                "kafka_format_failed", f"Kafka could not format its log: {done.stderr.strip()}"
            )
