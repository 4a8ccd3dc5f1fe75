"""The landing is the position: no gap, no repeat, whatever is killed and whatever the topic is."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from ledger_service.contract import topics
from ledger_service.contract.events import encode, event_type
from pipelines.ingestion import quarantine, raw
from pipelines.ingestion.compaction import compact
from pipelines.ingestion.manifest import LandedSource, Landing
from pipelines.ingestion.store import Disk
from pipelines.ingestion.topic_reader import TopicReader
from pipelines.ingestion.typed import Converter
from tests import ledger_events
from tests.integration.pipelines.surroundings import TopicWriter, write_raw

_names = itertools.count(1)


@pytest.fixture
def ledger(kafka):
    """A ledger's name with a topic of its own, which is gone afterwards."""
    writer = TopicWriter(kafka.admin)
    name = f"landed{next(_names)}"
    writer.create(topics.journal_topic(name))
    yield name
    writer.delete(topics.journal_topic(name))


@pytest.fixture
def writer(kafka) -> TopicWriter:
    return TopicWriter(kafka.admin)


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(Disk(tmp_path / "landing"))


@pytest.fixture
def land(landing, kafka):
    """Lands with a reader of its own, as a new process would."""

    def run() -> raw.Step:
        reader = TopicReader(kafka.login("pipelines"))
        whole = raw.Step()
        # It reads every topic to its end, so there is nothing to wait for.
        while (step := raw.land(landing, reader, seconds=0.0)).events:
            for name, count in step.landed.items():
                whole.landed[name] = whole.landed.get(name, 0) + count
            whole.refused |= step.refused
        reader.close()
        whole.refused |= step.refused
        return whole

    return run


def landed(landing: Landing, name: str) -> list[tuple[int, bytes]]:
    rows = []
    for file in landing.read().sources[name].raw:
        table = pq.read_table(landing.local(file))
        assert (table["seq"][0].as_py(), table["seq"][-1].as_py()) == (
            file.first_seq,
            file.last_seq,
        )
        rows += zip(table["seq"].to_pylist(), table["bytes"].to_pylist(), strict=True)
    return rows


def test_what_lands_is_the_journal_and_repeats_are_skipped(ledger, writer, landing, land):
    events = ledger_events.history(ledger, 50)
    writer.write_events(events[:30])
    assert land().landed[ledger] == 30
    writer.write_events(events[20:])
    assert land().landed[ledger] == len(events) - 30
    assert land().landed == {}
    assert landed(landing, ledger) == [(event.seq, encode(event)) for event in events]


def test_a_gap_refuses_to_land_and_the_rest_goes_on(ledger, writer, landing, land):
    events = ledger_events.history(ledger, 20)
    writer.write_events([*events[:10], *events[12:]])
    step = land()
    assert step.landed[ledger] == 10
    assert "seq 11 is missing" in step.refused[ledger]
    assert landing.read().sources[ledger].seq == 10


def test_a_lost_topic_stops_its_source_alone(ledger, writer, landing, land):
    other = f"{ledger}b"
    writer.create(topics.journal_topic(other))
    events = ledger_events.history(ledger, 10)
    writer.write_events([*events[:10], *ledger_events.history(other, 2)])
    land()
    writer.delete(topics.journal_topic(other))
    writer.write_events(events[10:])
    step = land()
    assert step.landed[ledger] == len(events) - 10
    assert "is gone" in step.refused[other]


def test_a_new_topic_is_read_on_by_seq(ledger, writer, landing, land):
    events = ledger_events.history(ledger, 40)
    writer.write_events(events[:25])
    land()
    before = landing.read().sources[ledger].topic_id
    writer.delete(topics.journal_topic(ledger))
    writer.create(topics.journal_topic(ledger))
    # A topic that was rebuilt from a later point: the same seq has another offset there.
    writer.write_events(events[15:])
    assert land().landed[ledger] == len(events) - 25
    assert landing.read().sources[ledger].topic_id != before
    assert landed(landing, ledger) == [(event.seq, encode(event)) for event in events]


def test_kill_during_landing_leaves_neither_gap_nor_repeat(  # noqa: PLR0917 - fixtures
    ledger, writer, landing, land, kafka, tmp_path
):
    events = ledger_events.history(ledger, 4_000)
    writer.write_events(events)
    script = (
        "import sys; from pathlib import Path; from pipelines.ingestion import raw, typed\n"
        "from ledger_service.contract.brokers import Brokers\n"
        "from pipelines.ingestion.manifest import Landing\n"
        "from pipelines.ingestion.store import Disk\n"
        "from pipelines.ingestion.topic_reader import TopicReader\n"
        "landing = Landing(Disk(Path(sys.argv[1])))\n"
        "reader, converter = TopicReader(Brokers.from_settings()), typed.Converter(landing)\n"
        "while True:\n"
        "    step = raw.land(landing, reader, seconds=1, limit=100)\n"
        "    converter.convert(); print(step.events, flush=True)\n"
    )
    arguments = [str(tmp_path / "landing")]
    for rounds in (1, 2):
        process = subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            stdout=subprocess.PIPE,
            env={**os.environ, **kafka.settings("pipelines")},
        )
        for _ in range(rounds):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
    # What a kill between rename and manifest leaves: a file that the manifest does not name.
    stray = tmp_path / "landing" / "raw" / ledger / "000000000001-000000000999.parquet"
    stray.write_bytes(b"half a file")
    land()
    Converter(landing).convert()
    assert landing.sweep() >= 1
    assert not stray.exists()
    assert landed(landing, ledger) == [(event.seq, encode(event)) for event in events]
    source = landing.read().sources[ledger]
    typed = sum(file.rows for file in source.typed["transactions"])
    assert typed == sum(event_type(event) == "transaction.posted" for event in events)


def test_a_foreign_record_is_set_aside(ledger, writer, landing, land):
    events = ledger_events.history(ledger, 3)
    writer.write_events(events[:5])
    writer._producer.produce(topics.journal_topic(ledger), value=b"hello", partition=0)
    writer.write_events(events[5:])
    assert land().landed[ledger] == len(events)
    (one,) = quarantine.listing(landing)
    assert (one.event.code, one.event.offset) == ("no_seq", 5)


def test_many_small_files_become_one(ledger, writer, landing, land):
    events = ledger_events.history(ledger, 60)
    for number, event in enumerate(events, 1):
        manifest = landing.read()
        source = manifest.sources.get(ledger, LandedSource(topic="t", topic_id="i"))
        file = write_raw(landing, ledger, source, [(number, event_type(event), encode(event))])
        source = msgspec.structs.replace(source, seq=number, raw=[*source.raw, file])
        landing.commit(manifest.with_source(ledger, source))
    assert compact(landing) == len(events)
    assert landing.sweep() == len(events)
    assert len(landing.read().sources[ledger].raw) == 1
    assert landed(landing, ledger) == [(event.seq, encode(event)) for event in events]
