"""`tally run relay`: publishes every journal and stream, each in a thread of its own.

One question to the database every POLL_S finds both new events and new ledgers. A source that is
stopped by an alarm says so in `/readyz` and in the log; the others go on.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable

import psycopg
import structlog
from confluent_kafka import KafkaException

from ledger_service.contract import environment, failpoints, logs
from ledger_service.contract.brokers import Brokers, refusal
from ledger_service.contract.service import Health, stop_on_signals
from ledger_service.engine.relay import Publisher
from ledger_service.engine.sources import RelayError, Source, read_heads, store_positions

POLL_S = 0.05
LONGEST_PAUSE_S = 10.0
DRAIN_S = 30.0

log = structlog.get_logger()


class SourceThread:
    """Keeps one source published until `stop` is set."""

    def __init__(self, publisher: Publisher, stop: threading.Event) -> None:
        self.publisher = publisher
        self.head = 0
        self.state = "opening"
        """opening, publishing, waiting (it tries again) or stopped (for good); `alarm` says why."""
        self.alarm: str | None = None
        self.detail: str | None = None
        """The alarm in words, with what to do."""
        self._stop = stop
        self._wake = threading.Event()
        # Threads begin with no context of their own, and their log lines would name no service.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._run,), name=publisher.source.topic, daemon=True
        )

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def notice(self, head: int) -> None:
        """Tell how far the source is; wakes the thread when there is something to publish."""
        self.head = head
        if head > self.publisher.position:
            self._wake.set()

    def wake(self) -> None:
        """Make the thread look at `stop` now."""
        self._wake.set()

    def join(self, timeout: float) -> None:
        """Wait until the batch in hand is committed and the thread has ended."""
        self._thread.join(timeout)

    def figures(self) -> dict[str, object]:
        """For `/readyz`."""
        position = self.publisher.position
        lag = max(0, self.head - position)
        return {
            "state": self.state, "seq": position, "lag": lag,
            "alarm": self.alarm, "detail": self.detail,
        }  # fmt: skip

    def _say(self, state: str, alarm: str | None = None, detail: str | None = None) -> None:
        self.state, self.alarm, self.detail = state, alarm, detail

    def _run(self) -> None:
        pause = 0.2
        while not self._stop.is_set():
            try:
                self.publisher.open()
                self._say("publishing")
                log.info(
                    "relay.opened", topic=self.publisher.source.topic, seq=self.publisher.position
                )
                pause = 0.2
                self._publish_until_stopped()
            except RelayError as alarm:
                self._say("stopped", alarm.code, str(alarm))
                log.error(  # noqa: TRY400 - the alarm says it all, a traceback would bury it
                    "relay.alarm",
                    topic=self.publisher.source.topic,
                    code=alarm.code,
                    detail=str(alarm),
                )
                return
            except (KafkaException, psycopg.Error, BufferError) as failure:
                # A fenced producer ends here too: opening anew reads back what its successor did.
                self._say("waiting", *_reason(failure))
                log.warning(
                    "relay.interrupted",
                    topic=self.publisher.source.topic,
                    code=self.alarm,
                    detail=self.detail,
                    retry_in_s=pause,
                )
                self._stop.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)
            finally:
                self.publisher.close()

    def _publish_until_stopped(self) -> None:
        while not self._stop.is_set():
            if self.publisher.publish() == 0:
                self._wake.wait(timeout=1.0)
                self._wake.clear()


def _reason(failure: KafkaException | psycopg.Error | BufferError) -> tuple[str, str]:
    if isinstance(failure, KafkaException):
        return refusal(failure)
    if isinstance(failure, psycopg.Error):
        return "database_not_answering", str(failure)
    return "kafka_not_answering", str(failure)


class Relay:
    """All sources, and the loop that finds their heads."""

    def __init__(self, make_publisher: Callable[[Source], Publisher], health: Health) -> None:
        self._make_publisher = make_publisher
        self._health = health
        self._stop_threads = threading.Event()
        self._threads: dict[Source, SourceThread] = {}
        self._stored: dict[Source, int] = {}

    def run(self, database_url: str, stop: threading.Event) -> None:
        """Publish until `stop` is set; then finish the batches in hand."""
        while not stop.is_set():
            try:
                with psycopg.connect(database_url, autocommit=True) as connection:
                    self._watch(connection, stop)
            except psycopg.Error as failure:
                log.warning("relay.database_unreachable", detail=str(failure))
                self._health.report(ready=False)
                stop.wait(1.0)
        self._drain(database_url)

    def _watch(self, connection: psycopg.Connection, stop: threading.Event) -> None:
        while not stop.is_set():
            for source, head in read_heads(connection).items():
                if source not in self._threads:
                    thread = SourceThread(self._make_publisher(source), self._stop_threads)
                    self._threads[source] = thread
                    thread.start()
                self._threads[source].notice(head)
            self._store(connection)
            self._report()
            stop.wait(POLL_S)

    def _store(self, connection: psycopg.Connection) -> None:
        positions = {source: thread.publisher.position for source, thread in self._threads.items()}
        changed = {s: seq for s, seq in positions.items() if seq and self._stored.get(s) != seq}
        if changed:
            store_positions(connection, changed)
            self._stored.update(changed)

    def _report(self) -> None:
        sources = {source.topic: thread.figures() for source, thread in self._threads.items()}
        ready = all(thread.state == "publishing" for thread in self._threads.values())
        self._health.report(ready=ready, sources=sources)

    def _drain(self, database_url: str) -> None:
        self._stop_threads.set()
        for thread in self._threads.values():
            thread.wake()
        for thread in self._threads.values():
            thread.join(DRAIN_S)
        try:
            with psycopg.connect(database_url, autocommit=True) as connection:
                self._store(connection)
        except psycopg.Error as failure:
            log.warning("relay.database_unreachable", detail=str(failure))
        log.info("relay.drained")


def main() -> None:
    """Serve until SIGTERM. Errors: `MissingSetting`."""
    logs.configure("relay", environment.read("TALLYSTICK_LOG_LEVEL"))
    failpoints.arm_from_environment()
    database_url = environment.read("TALLYSTICK_DATABASE_URL")
    brokers = Brokers.from_settings()
    replication = int(environment.read("TALLYSTICK_KAFKA_REPLICATION"))
    stop = stop_on_signals()
    health = Health()
    health.serve(*environment.host_and_port("TALLYSTICK_HEALTH_LISTEN"))

    def make_publisher(source: Source) -> Publisher:
        return Publisher(
            source, database_url=database_url, brokers=brokers, replication=replication
        )

    Relay(make_publisher, health).run(database_url, stop)


if __name__ == "__main__":
    main()
