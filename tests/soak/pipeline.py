"""The streaming run as a process that can be killed: real landing, dbt, checks and publication.

`python -m tests.soak.pipeline SABOTAGE EXPECTATIONS`, with settings from the environment, as `tally
pipeline` takes them; EXPECTATIONS is `with expectations` or `without`. Files are joined, archived and
removed sooner than in the product, so that a life of seconds passes the places where that happens. A
publication that a check forbids is said and goes on.
"""

from __future__ import annotations

import signal
import sys
import threading

from ledger_service.contract.snapshots import NAMES
from pipelines import streaming
from pipelines.flow import Flow
from pipelines.ingestion import compaction
from pipelines.publication import snapshot
from tests.soak import stream_sabotage

BLOCKED = "publication blocked"
LIFE_S = 3600.0
MANY_FILES = 4
KEPT_SNAPSHOTS, KEPT_S = 3, 1.0
STAYS = 200
"""Of a ledger's last events, so many are not archived."""


def main(sabotage: str, expectations: str) -> None:
    """Go round until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    compaction.MANY_FILES = MANY_FILES
    snapshot.KEEP, snapshot.KEEP_S = KEPT_SNAPSHOTS, KEPT_S
    streaming.LONGEST_REST_S = dict.fromkeys(NAMES, 1.0)
    if expectations == "without":
        streaming.ExpectationsProcess.start_if_due = lambda _: None
    flow = Flow.from_settings()
    stream_sabotage.commit(sabotage, flow)

    def report(one: streaming.Round) -> None:
        for outcome in one.publication.outcomes:
            if outcome.check.name in one.publication.blocked_by:
                print(f"{BLOCKED}: {outcome.check.name}: {outcome.check.detail}", flush=True)
        flow.archive(STAYS)

    with flow.lock.held(60):
        streaming.stream(flow, seconds=LIFE_S, give_way=stop.is_set, report=report)
    flow.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
