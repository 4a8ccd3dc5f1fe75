"""`make bench-ledger`: how fast the ledger is, at the HTTP edge, with everything durable.

Starts its own PostgreSQL, writer, API, Kafka and relay; measures; proves after each run that what
was answered is there and that the books balance; prints a table (with the processor time that a
transaction takes in each part, and what foreign processes took) and writes bench-ledger.json in
bench/ of the home. A run is a process of its own that shares the processor with what it measures.
Last comes how long an as-of question takes (tests/bench/asof.py, two minutes).
Settings, from the environment: SECONDS of a run (10), SUSTAINED_SECONDS (300; 0 leaves it out),
ACCOUNTS that money moves between (10,000), KNOWN accounts of which 50,000 are used (1,000,000).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import msgspec
import psutil

from ledger_service.stack import probes
from ledger_service.stack.home import Home, free_port
from tests import servers
from tests.bench import asof, invariants, references
from tests.bench.house import LEDGER, ROUTES, House, Processor, house, wait_for_writer

WORKLOADS = ("uniform", "zipf", "hot")
CONNECTIONS = {0: 64, 100: 64, 1000: 16, 8000: 8}
"""Of the client, by transactions in a request (0: the route for one): as many as keep both processors busy."""
IN_USE = 50_000


def number(name: str, default: int) -> int:
    return int(os.environ.get(name, default))


class Bench:
    """The figures, as they come."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.figures: dict[str, float] = {}
        self.seqs: list[int] = []
        """Of what the last run committed."""
        self.runs: list[dict[str, object]] = []

    def run(
        self,
        target: House,
        bulk: int,
        workload: str,
        *,
        settle: Callable[[], object] = lambda: None,
        **plan: object,
    ) -> float:
        """One run and the proof after it; gives transactions a second. `settle` waits for what
        follows the ledger and would be held up by the proof."""
        answers = target.folder / "answers"
        settled = {
            "seconds": self.seconds,
            "connections": CONNECTIONS[bulk],
            "path": f"{ROUTES}/transactions" + (":batch" if bulk else ""),
            "bulk": bulk,
            "workload": workload,
            "answers": str(answers),
            **plan,
        }
        client, processor = target.start(**settled), Processor()
        result = target.finish(client)
        spent, foreign = processor.spent()
        behind = _history_lag(target)
        settle()
        found = invariants.check(target.services.owner_url, LEDGER, answers, bulk=bulk > 0)
        assert not found.refused, f"{found.refused} were not committed"
        per_s, self.seqs = found.transactions / result.seconds, found.seqs
        line = {
            "workload": str(plan.get("do") or workload),
            "bulk": bulk or 1,
            "connections": settled["connections"],
            "per_s": round(per_s),
            "p50_ms": found.at(0.5),
            "p99_ms": found.at(0.99),
            "p999_ms": found.at(0.999),
            **{
                f"{part}_us": round(spent[part] / found.transactions * 1e6, 1)
                for part in ("api", "writer", "postgres")
            },
            "behind": behind,
            # Includes the client, which has ended: some hundredths. With more than a tenth no rate is worth keeping.
            "foreign": round(foreign, 2),
        }
        self.runs.append(line)
        print("  ".join(f"{value!s:>9}" for value in line.values()), flush=True)
        return per_s

    def say(self, **figures: float) -> None:
        """Note figures."""
        for name, value in figures.items():
            self.figures[name] = round(value, 3)
            print(f"{name:24} {value:>12,.3f}", flush=True)


def measure_bursts(bench: Bench, target: House, accounts: int) -> None:
    """Every workload in every size, and what the references do beside them."""
    bench.say(fsync_per_s=references.fsyncs_per_s(target.folder, 2))
    print("\n" + "  ".join(f"{name:>9}" for name in
        ("workload", "in one", "lines", "per s", "p50 ms", "p99 ms", "p99.9 ms", "api us",
         "writer us", "PG us", "behind", "foreign")))  # fmt: skip
    bench.run(target, 1000, "uniform", accounts=accounts, seconds=2)  # warms everything up
    bench.runs.clear()
    no_op = measure_no_op(bench, target)
    uniform: dict[int, float] = {}
    hot_over_uniform: list[float] = []

    def measure(*sizes: int) -> None:
        for bulk in sizes:
            first, *_, hot, last = [
                bench.run(target, bulk, workload, accounts=accounts)
                for workload in (*WORKLOADS, "uniform")
            ]
            uniform[bulk] = (first + last) / 2
            hot_over_uniform.append(hot / uniform[bulk])

    # What is compared is measured side by side, for no machine is the same minutes later: uniform
    # before and after the others, TPC-B between the two sizes that it is compared with.
    measure(0, 100, 1000)
    tpcb = references.tpcb_per_s(target.postgres, bench.seconds)
    measure(8000)
    single = next(run for run in bench.runs if run["bulk"] == 1)
    print()
    bench.say(
        no_op_per_s=no_op,
        tpcb_per_s=tpcb,
        single_per_s=uniform[0],
        single_p99_ms=float(str(single["p99_ms"])),
        single_over_noop=uniform[0] / no_op,
        bulk_1000_per_s=uniform[1000],
        bulk_8000_per_s=uniform[8000],
        hot_over_uniform=statistics.geometric_mean(hot_over_uniform),
        bulk_over_tpcb=uniform[1000] / tpcb,
        bulk_8000_over_tpcb=uniform[8000] / tpcb,
    )


def measure_no_op(bench: Bench, target: House) -> float:
    """Requests a second of a route that does nothing, with the same bodies both ways."""
    answers = target.folder / "answers"
    plan = {"answers": str(answers), "seconds": bench.seconds, "connections": CONNECTIONS[0]}
    with references.no_op(target.folder, answer_bytes=640) as port:
        result = target.finish(target.start(port=port, **plan))
    return result.requests / result.seconds


def measure_holds(bench: Bench, target: House, accounts: int) -> None:
    """Holds by the thousand, and then the capture of each: pairs a second, one after the other."""
    plan: dict[str, object] = {
        "path": f"{ROUTES}/commands:batch", "accounts": accounts, "seconds": bench.seconds / 2,
    }  # fmt: skip
    placed = bench.run(target, 1000, "uniform", do="hold", **plan)
    captured = bench.run(target, 1000, "uniform", do="capture", holds=bench.seqs, **plan)
    bench.say(hold_capture_per_s=1 / (1 / placed + 1 / captured))


def measure_reads(bench: Bench, target: House, accounts: int) -> None:
    """Reads of balances while half of what it can is written."""
    answers = target.folder / "reads"
    plan = {"accounts": accounts, "seconds": bench.seconds}
    most = bench.run(target, 1000, "uniform", **plan)
    reader = target.start(
        method="GET", path=f"{ROUTES}/accounts", connections=1, per_s=100,
        answers=str(answers), **plan,
    )  # fmt: skip
    bench.run(target, 1000, "uniform", per_s=most / 2, **plan)
    target.finish(reader)
    bench.say(balance_read_p99_ms=invariants.read_only(answers).at(0.99))


@contextlib.contextmanager
def relay(target: House) -> Iterator[str]:
    """Kafka and the relay; gives the address of the relay's figures."""
    health = f"127.0.0.1:{free_port()}"
    with servers.kafka(target.folder) as kafka:
        environment = {
            "TALLYSTICK_DATABASE_URL": target.database.url("relay"),
            **kafka.settings("relay"),
            "TALLYSTICK_HEALTH_LISTEN": health,
        }
        log = target.folder / "relay.log"
        command = [sys.executable, "-c", "from ledger_service.engine.relay_service import main; main()"]  # fmt: skip
        with servers.running(command, log, environment=environment) as process:
            servers.wait_ready(process, log, lambda: probes.http(f"http://{health}/readyz"))
            yield f"http://{health}/readyz"


def _lag(address: str) -> int:
    """Events of the ledger that are not in Kafka yet."""
    return next(
        source["lag"]
        for name, source in httpx.get(address).json()["sources"].items()
        if LEDGER in name
    )


def _history_lag(target: House) -> int:
    """Events that the history has not followed yet; all else that is read is in their own commit."""
    with target.services.client() as http:
        progress = http.get(f"{ROUTES}/progress").json()
    return progress["posted_seq"] - progress["history_seq"]


def measure_sustained(bench: Bench, target: House, accounts: int, seconds: float) -> None:
    """As much as it can for minutes, in thousands, while the relay publishes."""
    with relay(target) as address:
        while _lag(address):
            time.sleep(0.5)
        lags: list[int] = []
        behind: list[int] = []
        over = threading.Event()

        def watch() -> None:
            while not over.wait(1):
                lags.append(_lag(address))
                behind.append(_history_lag(target))

        watching = threading.Thread(target=watch)
        watching.start()
        per_s = bench.run(target, 1000, "uniform", accounts=accounts, seconds=seconds)
        over.set()
        watching.join()
        bench.say(
            sustained_per_s=per_s,
            relay_lag_events_max=max(lags),
            relay_lag_s_max=max(lags) / per_s,
            projection_lag_s=max(behind) / per_s,
        )


def measure_memory_and_start(bench: Bench, target: House) -> None:
    """The writer's memory with many accounts known and some in use, and its start after that."""
    bench.run(target, 1000, "uniform", accounts=IN_USE, seconds=max(10, bench.seconds))
    bench.say(writer_rss_mb=psutil.Process(target.services.writer.pid).memory_info().rss / 1024**2)
    servers.end(target.services.writer)
    began = time.perf_counter()
    target.services.writer = target.services.start_writer()
    wait_for_writer(target.services)
    bench.say(cold_start_s=time.perf_counter() - began)
    bench.run(target, 1000, "uniform", accounts=IN_USE, seconds=2)
    memory = psutil.Process(target.services.writer.pid).memory_info().rss
    bench.say(writer_rss_after_start_mb=memory / 1024**2)


def main() -> None:
    """Measure everything; write the figures."""
    bench = Bench(number("SECONDS", 10))
    accounts, known = number("ACCOUNTS", 10_000), number("KNOWN", 1_000_000)
    sustained = number("SUSTAINED_SECONDS", 300)
    with scratch() as folder:
        with house(folder / "bursts", accounts=accounts) as target:
            measure_bursts(bench, target, accounts)
            measure_holds(bench, target, accounts)
            measure_reads(bench, target, accounts)
            if sustained:
                measure_sustained(bench, target, accounts, sustained)
        with house(folder / "many", accounts=known) as target:
            measure_memory_and_start(bench, target)
        bench.say(**asof.measure(folder / "asof"))
    write("bench-ledger.json", bench)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder in bench/ of the home, for the servers of one benchmark."""
    folder = Path(tempfile.mkdtemp(dir=Home.current().create() / "bench"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def write(name: str, bench: Bench) -> None:
    """The figures, flat, and what the runs took beside them."""
    path = Home.current() / "bench" / name
    path.write_bytes(msgspec.json.format(msgspec.json.encode(bench.figures), indent=2))
    path.with_suffix(".runs.json").write_bytes(msgspec.json.encode(bench.runs))
    print(f"\n{path}")


if __name__ == "__main__":
    main()
