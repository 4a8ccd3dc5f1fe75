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
from pathlib import Path

from ledger_service.contract.snapshots import write_atomically
from ledger_service.stack.errors import StackError

_HERE = Path(__file__).parent
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


def _version() -> str:
    return hashlib.sha256((_HERE / "pom.xml").read_bytes()).hexdigest()


def _have_jars(lib: Path) -> bool:
    """Whether all jars of this version of the pom are in `lib`: the mark is written last."""
    mark = lib / "pom.sha256"
    return mark.exists() and mark.read_text() == _version()


def maven(lib: Path) -> str | None:
    """The Maven to bring jars with; None where `lib` has them already. Errors: `no_maven`."""
    if _have_jars(lib):
        return None
    found = shutil.which("mvn")
    if found is None:
        raise StackError("no_maven", f"Kafka's jars come by Maven: {INSTALL_MAVEN}, {_ELSEWHERE}.")
    return found


def fetch_jars(lib: Path) -> None:
    """Bring Kafka's jars into `lib` by Maven, once per version of the pom; one caller at a time.

    Errors: `no_maven`, `maven_failed`.
    """
    if _have_jars(lib):
        return
    lib.parent.mkdir(parents=True, exist_ok=True)
    with lib.with_name("lib.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if bringer := maven(lib):
            _bring(bringer, lib)


def _bring(bringer: str, lib: Path) -> None:
    shutil.rmtree(lib, ignore_errors=True)
    lib.mkdir()
    done = subprocess.run(
        [
            bringer, "-q", "-B", "-f", str(_HERE / "pom.xml"), "dependency:copy-dependencies",
            f"-DoutputDirectory={lib}",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        raise StackError("maven_failed", f"Maven could not bring Kafka's jars; try again:\n{tail}")
    write_atomically(lib / "pom.sha256", _version().encode())


@dataclasses.dataclass(frozen=True)
class KafkaServer:
    """One broker that is its own controller."""

    folder: Path
    lib: Path
    port: int
    controller_port: int
    jvm_options: tuple[str, ...] = ("-Xmx512m", "-XX:+UseSerialGC")

    @property
    def bootstrap(self) -> str:
        """host:port for clients."""
        return f"127.0.0.1:{self.port}"

    def prepare(self) -> None:
        """Bring the jars, write the configuration, format the log directory at the first start."""
        java()
        fetch_jars(self.lib)
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
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
        }
        text = "".join(f"{name}={value}\n" for name, value in settings.items())
        write_atomically(self.folder / "server.properties", text.encode())
        if not (self.folder / "data" / "meta.properties").exists():
            self._format()

    def command(self) -> list[str]:
        """The broker in the foreground; SIGTERM stops it cleanly."""
        return self._java("kafka.Kafka", str(self.folder / "server.properties"))

    def _java(self, *arguments: str) -> list[str]:
        log = f"-Dlog4j2.configurationFile={_HERE / 'log4j2.xml'}"
        return [java(), *self.jvm_options, log, "-cp", f"{self.lib}/*", *arguments]

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        properties = str(self.folder / "server.properties")
        # `=`: an id may start with a dash
        arguments = ["format", f"--cluster-id={cluster}", "-c", properties, "--ignore-formatted"]
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
