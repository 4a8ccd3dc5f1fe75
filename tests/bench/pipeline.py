"""`make bench-pipeline`: from the journal to published marts, each stage against its own reference.

Fills a ledger by the writer itself, a tenth of the transfers backdated by up to sixty days; publishes
all of it to Kafka; lands, types, builds and publishes it; then adds to it while the streaming run is
at work. PostgreSQL, Kafka, writer, API and relay are real, on the same two cores as what is measured.
Prints the figures and writes bench-pipeline.json in bench/ of the home. Settings, from the
environment: TRANSFERS (5,000,000: ten million entries), FEW of the smaller warehouse (500,000),
PER_S and SECONDS of the streaming run's load (2,000 and 120). Accounts pay the same few, and a
stranger in one of a hundred transfers, as people do: rules about strangers have little to find.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from ledger_service.contract import topics
from ledger_service.contract.brokers import Brokers
from ledger_service.contract.snapshots import NAMES, SnapshotName
from ledger_service.domain.commands import Command, OpenAccount
from ledger_service.engine.relay import Publisher
from ledger_service.engine.sources import Source
from pipelines import streaming
from pipelines.flow import Flow
from pipelines.ingestion import raw
from pipelines.ingestion.manifest import LandedSource
from pipelines.ledger_api import LedgerApi
from pipelines.places import Places
from pipelines.warehouse import dbt
from tests import ledger_api, servers
from tests.bench import filling
from tests.bench.house import LEDGER, ROUTES, House, database, wait_for_writer
from tests.bench.ledger import Bench, number, scratch, write
from tests.bench.load import account

ACCOUNTS = 50_000
NEW = 5_000
"""Transfers of an increment: ten thousand entries."""
INCREMENTS = 3
TOPIC = topics.journal_topic(LEDGER)


def commands(count: int) -> Iterator[Command]:
    """Accounts, and transfers between them as the API makes them."""
    for item in range(ACCOUNTS):
        yield OpenAccount(account(item), "USD", "bench")
    choose = random.Random(0)
    noon = dt.datetime.now(dt.UTC).replace(hour=17, minute=0, second=0, microsecond=0)
    days = [f"{noon - dt.timedelta(days=ago):%Y-%m-%dT%H:%M:%SZ}" for ago in range(1, 61)]
    yield from filling.transfers(
        LEDGER, count, ACCOUNTS, lambda item: None if item % 10 else choose.choice(days), "near"
    )


# --- Kafka ------------------------------------------------------------------------------------------


def measure_relay(bench: Bench, target: servers.LedgerDatabase, kafka: servers.Kafka) -> int:
    """Publish the whole journal; gives its last seq."""
    publisher = Publisher(
        Source(LEDGER, "journal"),
        database_url=target.url("relay"),
        brokers=kafka.login("relay"),
        replication=1,
    )
    publisher.open()
    began = time.perf_counter()
    while publisher.publish():
        pass
    relay_per_s = publisher.position / (time.perf_counter() - began)
    publisher.close()
    producer_per_s = bare_producer_per_s(kafka.admin)
    bench.say(
        relay_per_s=relay_per_s,
        producer_per_s=producer_per_s,
        relay_over_producer=relay_per_s / producer_per_s,
    )
    return publisher.position


def bare_producer_per_s(brokers: Brokers) -> float:
    """Records a second of a producer that sends one event after the other and looks at none."""
    admin = AdminClient(brokers.client())
    admin.create_topics([NewTopic("bench.bare", 1, 1)])["bench.bare"].result()
    count, producer = 200_000, Producer(brokers.client(**{"compression.type": "lz4"}))
    value = os.urandom(300).hex().encode()
    headers: list[tuple[str, str | bytes | None]] = [
        *topics.headers(source="bare", seq=1, event_type="bare", time="now", subject="bare")
    ]
    began = time.perf_counter()
    for _ in range(count):
        while True:
            try:
                producer.produce("bench.bare", value=value, headers=headers, partition=0)
                break
            except BufferError:
                producer.poll(0.05)
    producer.flush()
    return count / (time.perf_counter() - began)


def bare_consumer_per_s(brokers: Brokers, count: int) -> float:
    """Records a second of a consumer that only counts."""
    consumer = Consumer(brokers.reader(**{"enable.partition.eof": False}))
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    began, found = time.perf_counter(), 0
    while found < count:
        found += len(consumer.consume(10_000, 1.0))
    took = time.perf_counter() - began
    consumer.close()
    return count / took


# --- landing and marts ------------------------------------------------------------------------------


def land(flow: Flow, count: int) -> None:
    """Land so many events more."""
    left = count
    while left > 0:
        limit = min(left, raw.BATCH_RECORDS)
        left -= raw.land(flow.landing, flow.reader, seconds=1.0, limit=limit).events


def full_build(places: Places) -> tuple[float, float]:
    """Seconds and MB of a dbt process that builds everything but the typologies anew."""

    def run(*command: str) -> tuple[float, float]:
        began = time.perf_counter()
        process = subprocess.Popen(
            ["dbt", *command, "--vars", json.dumps(dbt.variables()), *dbt.arguments(places)],
            env={**os.environ, **dbt.environment_of(places)},
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        said = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, said
        return time.perf_counter() - began, usage.ru_maxrss / 1024

    run("seed", "--quiet")
    return run("run", "--exclude", dbt.RULES)


def increments_s(flow: Flow) -> dict[SnapshotName, float]:
    """Seconds of dbt for ten thousand new entries, for the rules by themselves; the middle of three."""
    taken: dict[SnapshotName, list[float]] = {name: [] for name in NAMES}
    for _ in range(INCREMENTS):
        land(flow, NEW)
        flow.convert()
        for name in NAMES:
            began = time.perf_counter()
            flow.build([name])
            taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(found) for name, found in taken.items()}


def measure_few(bench: Bench, flow: Flow, count: int) -> dict[SnapshotName, float]:
    """An increment on a small warehouse, for comparison."""
    land(flow, count)
    flow.convert()
    flow.build()
    taken = increments_s(flow)
    bench.say(increment_10k_on_few_s=taken["general"], rules_10k_on_few_s=taken["restricted"])
    return taken


def measure_many(
    bench: Bench, flow: Flow, kafka: servers.Kafka, last: int
) -> dict[SnapshotName, float]:
    """Landing, typed landing, full build and increment of all there is."""
    consumer_per_s = bare_consumer_per_s(kafka.login("pipelines"), last)
    at_first = last - NEW * INCREMENTS
    began = time.perf_counter()
    land(flow, at_first)
    landing_per_s = at_first / (time.perf_counter() - began)
    bench.say(
        landing_per_s=landing_per_s,
        consumer_per_s=consumer_per_s,
        landing_over_consumer=landing_per_s / consumer_per_s,
    )
    began = time.perf_counter()
    flow.convert()
    took = time.perf_counter() - began
    entries = sum(file.rows for file in landed(flow).typed["entries"])
    bench.say(typed_per_s=entries / took, entries=entries)
    took, memory = full_build(flow.places)
    bench.say(full_build_s=took, full_build_rss_mb=memory)
    began = time.perf_counter()
    flow.build()
    bench.say(typologies_build_s=time.perf_counter() - began)
    taken = increments_s(flow)
    bench.say(increment_10k_s=taken["general"], rules_10k_s=taken["restricted"])
    return taken


def landed(flow: Flow) -> LandedSource:
    """How far the ledger has landed."""
    return flow.landing.read().sources[LEDGER]


# --- freshness --------------------------------------------------------------------------------------


def measure_freshness(bench: Bench, target: House, flow: Flow, per_s: int, seconds: float) -> None:
    """From commit to published mart, while the streaming run goes on."""
    published: dict[SnapshotName, list[tuple[int, float]]] = {name: [] for name in NAMES}
    over = threading.Event()

    def report(done: streaming.Round) -> None:
        if done.publication.blocked_by:
            failed = [one.check for one in done.publication.outcomes if not one.check.passed]
            raise AssertionError(f"not published: {failed}")
        for name, manifest in done.publication.manifests.items():
            published[name].append((manifest.as_of[LEDGER], time.time()))

    def settle() -> None:
        committed = posted(target)
        while not over.is_set() and any(known[-1][0] < committed for known in published.values()):
            time.sleep(0.1)

    def write_on() -> None:
        try:
            while not over.is_set() and not all(published.values()):
                time.sleep(0.1)
            # Few connections: one that rests for seconds is closed by the API.
            plan = {"accounts": ACCOUNTS, "per_s": per_s, "seconds": seconds, "connections": 4}
            bench.run(target, 100, "near", settle=settle, **plan)
        finally:
            over.set()

    with ThreadPoolExecutor() as pool, flow.lock.held(60):
        writing = pool.submit(write_on)
        try:
            streaming.stream(flow, seconds=seconds + 600, give_way=over.is_set, report=report)
        finally:
            over.set()
        writing.result()
    found = {name: delays(target, known) for name, known in published.items()}
    bench.say(
        freshness_streaming_p50_s=statistics.median(found["general"]),
        freshness_streaming_p95_s=statistics.quantiles(found["general"], n=100)[94],
        freshness_of_rules_p95_s=statistics.quantiles(found["restricted"], n=100)[94],
        publications=len(published["general"]),
    )


def posted(target: House) -> int:
    """`seq` of the last event in the journal."""
    with target.services.client() as http:
        return http.get(f"{ROUTES}/progress").json()["posted_seq"]


def delays(target: House, published: list[tuple[int, float]]) -> list[float]:
    """Seconds from the record to the publication that first showed it, of each event under load."""
    query = """
        select seq, extract(epoch from recorded_at)::float8 from ledger.journal
         where ledger = %s and seq > %s and seq <= %s order by seq
    """
    found: list[float] = []
    with psycopg.connect(target.services.owner_url) as connection:
        for (before, _), (as_of, at) in itertools.pairwise(published):
            rows = connection.execute(query, (LEDGER, before, as_of)).fetchall()
            found += [at - recorded for _, recorded in rows]
    assert found, "nothing was written while the streaming run went on"
    return found


def measure_once(bench: Bench, target: House, flow: Flow, kafka: servers.Kafka) -> None:
    """One run as a schedule starts it: a process that lands, builds, checks and publishes."""
    bench.run(target, 1000, "near", accounts=ACCOUNTS, seconds=2)
    dbt.release(None)  # the other process could not open the warehouse
    began = time.perf_counter()
    subprocess.run(
        ["tally", "pipeline", "run-once", "--no-reports"],
        env={
            **os.environ,
            **kafka.settings("pipelines"),
            "TALLYSTICK_API_URL": target.services.url,
            "TALLYSTICK_API_KEY": target.services.everything,
            "TALLYSTICK_HOME": str(flow.places.warehouse.parent),
        },
        check=True,
    )
    bench.say(run_once_s=time.perf_counter() - began)


def places_in(home: Path) -> Places:
    """A pipeline's places in a home of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TALLYSTICK_HOME", str(home))
        return Places.from_settings()


def main() -> None:
    """Measure everything; write the figures."""
    bench = Bench(number("SECONDS", 120))
    count, few = number("TRANSFERS", 5_000_000), number("FEW", 500_000)
    with (
        scratch() as folder,
        database(folder) as (postgres, made),
        servers.kafka(folder) as kafka,
    ):
        began = time.perf_counter()
        asyncio.run(filling.carry_out(made, LEDGER, commands(count)))
        bench.say(filled_per_s=count / (time.perf_counter() - began))
        with ledger_api.processes(made, folder, log_level="info") as services:
            wait_for_writer(services)
            target = House(postgres, made, services, folder)
            api = LedgerApi(services.url, services.everything)
            last = measure_relay(bench, made, kafka)
            small = Flow(places_in(folder / "few"), kafka.login("pipelines"), api)
            on_few = measure_few(bench, small, few)
            large = Flow(places_in(folder / "many"), kafka.login("pipelines"), api)
            on_many = measure_many(bench, large, kafka, last)
            bench.say(
                increment_ratio=on_many["general"] / on_few["general"],
                rules_ratio=on_many["restricted"] / on_few["restricted"],
            )
            measure_streaming(bench, target, large, kafka)
    write("bench-pipeline.json", bench)


def measure_streaming(bench: Bench, target: House, flow: Flow, kafka: servers.Kafka) -> None:
    """How fresh the marts are, with the relay at work."""
    environment = {
        "TALLYSTICK_DATABASE_URL": target.database.url("relay"),
        **kafka.settings("relay"),
        "TALLYSTICK_HEALTH_LISTEN": "127.0.0.1:0",
    }
    command = [sys.executable, "-c", "from ledger_service.engine.relay_service import main; main()"]
    with servers.running(command, target.folder / "relay.log", environment=environment):
        measure_freshness(bench, target, flow, number("PER_S", 2_000), bench.seconds)
        measure_once(bench, target, flow, kafka)


if __name__ == "__main__":
    main()
