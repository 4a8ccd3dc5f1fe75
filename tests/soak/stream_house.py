"""A ledger with its relay, a broker of its own and the pipeline, all of which can be killed."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pipelines.places import Places
from tests import servers
from tests.soak import stream_sabotage
from tests.soak.broker import Broker, broker
from tests.soak.cluster import Cluster, Node, cluster
from tests.soak.pipeline import BLOCKED
from tests.soak.side_facts import BROKEN
from tests.soak.stream_judge import StreamJudge

CAUGHT_UP_S = 120.0


@dataclasses.dataclass
class Stream:
    """Everything at work, and what judges it."""

    running: Cluster
    kafka: Broker
    pipeline: Node
    places: Places
    judge: StreamJudge

    def wait_until_published(self, seconds: float = CAUGHT_UP_S) -> None:
        """Until all has arrived. Errors: AssertionError, with what the pipeline said."""
        until = time.monotonic() + seconds
        while late := self.judge.behind():
            is_over = time.monotonic() > until or not self.pipeline.is_running or self.blocked()
            assert not is_over, f"{late}: {self.pipeline.said()[-500:]}"
            time.sleep(0.3)

    def stop_pipeline(self) -> None:
        """As a supervisor does, by SIGTERM: it finishes the step in hand."""
        if self.pipeline.process is not None:
            servers.end(self.pipeline.process, seconds=60)

    def blocked(self) -> list[str]:
        """The checks that stood in the way of a publication, which nothing here may do."""
        lines = self.pipeline.log.read_text(errors="replace").splitlines()
        return sorted({line for line in lines if line.startswith(BLOCKED)})


@contextlib.contextmanager
def stream(
    database: servers.LedgerDatabase, folder: Path, *, broken: str = "", expectations: bool = True
) -> Iterator[Stream]:
    """Start all but the pipeline, which a kill loop starts. `broken`: a sabotage of the stream.

    `expectations`: whether Great Expectations are evaluated, too, which takes much of the processor.
    """
    in_relay = bool(broken) and stream_sabotage.ALL[broken].service == "relay"
    with (
        broker(folder / "broker") as kafka,
        cluster(database, folder, writers=1, apis=1, kafka=kafka.kafka) as running,
    ):
        if in_relay:
            _sabotage(running.named("relay")[0], broken)
        home = folder / "home"
        settings = {
            "TALLYSTICK_ENV": "test",
            "TALLYSTICK_HOME": str(home),
            "TALLYSTICK_LANDING_ARCHIVE": str(home / "archive"),
            "TALLYSTICK_API_URL": running.urls[0],
            "TALLYSTICK_API_KEY": running.key,
            **kafka.kafka.settings("pipelines"),
        }
        command = [
            sys.executable, "-m", "tests.soak.pipeline", "" if in_relay else broken,
            "with expectations" if expectations else "without",
        ]  # fmt: skip
        pipeline = Node("pipeline", command, settings, folder / "pipeline.log", "")
        running.nodes.append(pipeline)  # and so it ends with the others
        places = Places(
            landing=str(home / "landing"), archive=str(home / "archive"), cache=home / "cache",
            warehouse=home / "warehouse", snapshots=home / "snapshots", reports=home / "reports",
        )  # fmt: skip
        judge = StreamJudge(database.owner_url, places, frozenset({BROKEN}))
        yield Stream(running, kafka, pipeline, places, judge)


def _sabotage(relay: Node, broken: str) -> None:
    relay.kill()
    relay.command[-1] = (
        f"from tests.soak import stream_sabotage; stream_sabotage.commit({broken!r}); "
        f"{relay.command[-1]}"
    )
    relay.start()
