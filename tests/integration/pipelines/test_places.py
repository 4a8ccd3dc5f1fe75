"""The landing keeps its promises wherever it lies: on a disk, and on object storage (S3)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger_service.contract.events import encode, event_type
from pipelines.ingestion import quarantine
from pipelines.ingestion.compaction import MANY_FILES, compact
from pipelines.ingestion.manifest import DataFile, LandedSource, Landing, LandingTakenError
from pipelines.ingestion.store import NameTakenError, store_at
from pipelines.ingestion.typed import Converter
from pipelines.warehouse import database
from tests import ledger_events
from tests.integration.pipelines.surroundings import write_raw

LEDGER = "books"


@pytest.fixture(params=["disk", "s3"])
def place(request, tmp_path: Path) -> str:
    """A place of the landing, as the setting names it."""
    if request.param == "disk":
        return str(tmp_path / "landing")
    return request.getfixturevalue("bucket")


@pytest.fixture
def opened(place, tmp_path):
    """Opens the landing as one more process would: with a cache of its own."""

    def run() -> Landing:
        run.count += 1
        return Landing.at(place, tmp_path / f"cache{run.count}", str(tmp_path / "archive"))

    run.count = 0
    return run


def land(landing: Landing, first: int, last: int) -> None:
    """Land events of a history as the raw landing does, without a topic."""
    events = ledger_events.history(LEDGER, 400)[first - 1 : last]
    manifest = landing.read()
    source = manifest.sources.get(LEDGER, LandedSource(topic="t", topic_id="i"))
    records = [(e.seq, f"tallystick.{event_type(e)}.v1", encode(e)) for e in events]
    file = write_raw(landing, LEDGER, source, records)
    source = msgspec.structs.replace(source, seq=last, raw=[*source.raw, file])
    landing.commit(manifest.with_source(LEDGER, source))


def seqs(landing: Landing) -> list[int]:
    """What has landed, in the order of the files."""
    return [
        seq
        for file in landing.read().sources[LEDGER].raw
        for seq in pq.read_table(landing.local(file))["seq"].to_pylist()
    ]


def convert(landing: Landing) -> None:
    converter = Converter(landing)
    converter.convert()
    converter.close()


def test_what_a_killed_process_had_in_hand_goes_with_the_next_commit(tmp_path):
    landing = Landing.at(str(tmp_path / "landing"), tmp_path / "cache")
    landing.hold()
    draft = tmp_path / "landing" / ".manifest.json.0a1b2c3d"
    draft.write_bytes(b"half a manifest")
    landing.hold()
    assert not draft.exists()
    assert landing.read().version == 2


def test_a_file_is_written_once_and_the_manifest_only_replaced_by_who_has_seen_it(place, tmp_path):
    store = store_at(place, tmp_path / "cache")

    def add(content: bytes) -> None:
        draft = store.draft("raw/a")
        draft.write_bytes(content)
        store.add("raw/a", draft)

    add(b"one")
    add(b"one")  # a repeat is the same file
    with pytest.raises(NameTakenError, match="raw/a"):
        add(b"two")
    assert store_at(place, tmp_path / "elsewhere").local("raw/a").read_bytes() == b"one"
    assert store.paths() == ["raw/a"]
    first = store.replace("m", b"1", None)
    second = store.replace("m", b"2", first)
    for stale in (None, first):
        with pytest.raises(RuntimeError):
            store.replace("m", b"3", stale)
    assert store.read("m") == (b"2", second)
    store.remove(["raw/a"])
    with pytest.raises(FileNotFoundError):
        store.local("raw/a").read_bytes()
    assert store.read("nothing") is None


def test_the_way_of_events_is_the_same(opened, tmp_path):
    landing = opened()
    for first in range(1, 121, 2):
        land(landing, first, first + 1)
    convert(landing)
    land(landing, 121, 400)
    convert(landing)
    assert compact(landing) == 61 > MANY_FILES
    assert landing.sweep() == 61
    assert seqs(opened()) == list(range(1, 401))
    with database.opened(tmp_path / "w" / "warehouse.duckdb") as connection:
        # As another machine sees it, which has none of the files.
        database.make_landing_views(connection, opened())
        count = "select count(distinct seq), min(seq), max(seq) from landing.entries"
        posted = [e.seq for e in ledger_events.history(LEDGER, 400)[:400] if hasattr(e, "entries")]
        assert connection.execute(count).fetchall() == [(len(posted), posted[0], posted[-1])]


def test_of_two_landers_one_wins_and_the_other_has_changed_nothing(opened):
    one, other = opened(), opened()
    land(one, 1, 10)
    # Both have read the same manifest; the other is faster.
    manifest = one.read()
    land(other, 11, 20)
    source = manifest.sources[LEDGER]
    file = write_raw(one, LEDGER, source, [(11, "x", b"{}")])
    source = msgspec.structs.replace(source, seq=11, raw=[*source.raw, file])
    with pytest.raises(LandingTakenError, match="Stop one of them"):
        one.commit(manifest.with_source(LEDGER, source))
    # Reading the new manifest does not give the landing back: its files may be swept meanwhile.
    with pytest.raises(LandingTakenError):
        land(one, 21, 30)
    with pytest.raises(LandingTakenError):
        one.sweep()
    assert other.sweep() >= 1
    land(other, 21, 30)
    assert seqs(opened()) == list(range(1, 31))
    # On purpose one may take it over; then the other is out.
    one.hold()
    land(one, 31, 40)
    with pytest.raises(LandingTakenError):
        land(other, 31, 40)
    assert seqs(opened()) == list(range(1, 41))


def test_killed_between_file_and_manifest_the_same_events_are_the_same_file(
    opened, place, tmp_path
):
    landing = opened()
    land(landing, 1, 10)
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from pipelines.ingestion.manifest import Landing\n"
        "from tests.integration.pipelines import test_places\n"
        "Landing.commit = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "test_places.land(Landing.at(sys.argv[1], Path(sys.argv[2])), 11, 20)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script, place, str(tmp_path / "killed")],
        cwd=Path(__file__).parents[3],
        env={**os.environ},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    left = [path for path in landing._store.paths() if "000000000011" in path]
    assert left == [f"raw/{LEDGER}/000000000011-000000000020.parquet"]
    assert seqs(landing) == list(range(1, 11))
    land(landing, 11, 20)
    assert seqs(landing) == list(range(1, 21))
    assert landing.sweep() == 0


def test_what_a_crash_left_is_swept_and_nothing_else_is(opened, place, tmp_path):
    landing = opened()
    land(landing, 1, 10)
    landing._store.replace("somebody-elses.txt", b"keep", None)
    for path in ("raw/books/stray.parquet", "typed/entries/books/stray.parquet"):
        landing.add(path, lambda file: file.write_bytes(b"half"))
    poison = quarantine.Poison(1, "bad_field", "kind")
    quarantine.add(landing, LEDGER, landing.read().sources[LEDGER], [poison])
    assert landing.sweep() == 3
    assert landing._store.read("somebody-elses.txt") is not None
    assert seqs(opened()) == list(range(1, 11))


def test_only_the_manifest_says_what_is_there(opened):
    landing = opened()
    land(landing, 1, 10)
    write_raw(landing, LEDGER, landing.read().sources[LEDGER], [(11, "x", b"{}")])
    convert(landing)
    assert landing.read().landed == {LEDGER: 10}
    assert seqs(opened()) == list(range(1, 11))


def test_every_parquet_schema_has_whole_numbers_only(opened):
    landing = opened()
    land(landing, 1, 400)
    convert(landing)
    files = [p for p in landing._store.paths() if p.endswith(".parquet")]
    assert {path.split("/")[0] for path in files} == {"raw", "typed"}
    for path in files:
        for field in pq.read_schema(landing._store.local(path)):
            assert not pa.types.is_floating(field.type), path
            assert not pa.types.is_decimal(field.type), path
    amounts = duckdb.sql(
        "select distinct typeof(amount) from read_parquet(%r)"
        % [str(landing._store.local(path)) for path in files if "/entries/" in path]
    )
    assert amounts.fetchall() == [("BIGINT",)]


def test_the_archive_gives_back_what_was_moved_there(opened):
    from pipelines.ingestion.archive import archive
    from pipelines.ingestion.rewriting import retype

    landing = opened()
    for first in range(1, 400, 100):
        land(landing, first, first + 99)
    before = landing.read().sources[LEDGER].raw
    # Nothing is typed, and then nothing is proven: nothing moves.
    assert archive(landing, {LEDGER: 400}, keep=0) == {}
    convert(landing)
    assert archive(landing, {}, keep=0) == {}
    assert archive(landing, {LEDGER: 399}, keep=150) == {LEDGER: 2}
    files = landing.read().sources[LEDGER].raw
    assert [file.archived for file in files] == [True, True, False, False]
    here = [path for path in landing._store.paths() if path.startswith("raw/")]
    assert here == [file.path for file in files if not file.archived]
    assert [file.path for file in files] == [file.path for file in before]
    other = opened()
    assert seqs(other) == list(range(1, 401))
    converter = Converter(other)
    assert retype(other, converter, LEDGER) == 400
    assert other.read().quarantined == 0


def test_what_waits_in_quarantine_is_not_archived(opened):
    from pipelines.ingestion.archive import archive

    landing = opened()
    for first in (1, 101):
        land(landing, first, first + 99)
    convert(landing)
    manifest = landing.read()
    poison = quarantine.Poison(150, "bad_field", "kind")
    source = quarantine.add(landing, LEDGER, manifest.sources[LEDGER], [poison])
    landing.commit(manifest.with_source(LEDGER, source))
    assert archive(landing, {LEDGER: 200}, keep=0) == {LEDGER: 1}


def test_without_an_archive_nothing_moves_and_the_error_says_what_to_set(place, tmp_path):
    landing = Landing.at(place, tmp_path / "cache")
    land(landing, 1, 10)
    file = landing.read().sources[LEDGER].raw[0]
    gone = DataFile(file.path, 1, 10, 10, archived=True)
    for attempt in (landing.local, landing.move_to_archive):
        with pytest.raises(FileNotFoundError, match="TALLYSTICK_LANDING_ARCHIVE"):
            attempt(gone)
