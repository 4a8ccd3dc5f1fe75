"""What was mended comes out as if it had been right all along; what was not stays, with a reason."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import duckdb
import msgspec
import pytest

from ledger_service.contract.events import encode, event_type
from pipelines.ingestion import quarantine, rewriting, typed
from pipelines.ingestion.compaction import compact
from pipelines.ingestion.manifest import DataFile, Landing
from pipelines.ingestion.store import Disk
from pipelines.ingestion.tables import TABLES, TRANSACTIONS
from pipelines.ingestion.typed import Converter, present_form
from pipelines.warehouse import database
from tests import ledger_events
from tests.integration.pipelines.surroundings import typed_contents
from tests.unit.pipelines.test_typed_landing import LEDGER, as_records, land

HISTORY = ledger_events.history(LEDGER, 60)
HISTORY += ledger_events.declarations(LEDGER, len(HISTORY) + 1)
HISTORY += ledger_events.holds_and_periods(LEDGER, len(HISTORY) + 1)
UNKNOWN = [event for event in HISTORY if event_type(event) in ("rule.declared", "hold.placed")]


@pytest.fixture
def converter(landing):
    one = Converter(landing)
    yield one
    one.close()


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(Disk(tmp_path / "landing"))


def read_by_an_older_version(patch: pytest.MonkeyPatch) -> None:
    """One that does not know some types of events."""
    known = [e for e in typed.JOURNAL_EVENTS if e not in {type(event) for event in UNKNOWN}]
    patch.setattr(typed, "JOURNAL_EVENTS", tuple(known))


@pytest.fixture
def right(tmp_path: Path) -> dict[str, tuple[int, str]]:
    """The typed landing of a version that knew everything from the beginning."""
    landing = Landing(Disk(tmp_path / "right"))
    land(landing, as_records(HISTORY))
    converter = Converter(landing)
    converter.convert()
    converter.close()
    assert landing.read().quarantined == 0
    return typed_contents(landing)


def test_what_a_newer_version_knows_takes_its_place(landing, converter, right, monkeypatch):
    with monkeypatch.context() as patch:
        read_by_an_older_version(patch)
        for start in range(0, len(HISTORY), 20):
            land(landing, as_records(HISTORY[start : start + 20]))
            converter.convert()
    assert landing.read().quarantined == len(UNKNOWN)
    assert typed_contents(landing) != right
    version = landing.read().version
    done = rewriting.requeue(landing, converter, LEDGER)
    assert (done.tried, done.typed) == (len(UNKNOWN), len(UNKNOWN))
    manifest = landing.read()
    assert manifest.quarantined == 0
    assert manifest.sources[LEDGER].rewritten == manifest.version == version + 1
    assert typed_contents(landing) == right
    for files in manifest.sources[LEDGER].typed.values():
        assert files == sorted(files, key=lambda file: file.first_seq)
    # Again: nothing is left to do, and nothing is done.
    assert rewriting.requeue(landing, converter, LEDGER) == rewriting.Requeued(0, 0)
    assert landing.read() == manifest


def test_what_is_still_bad_stays_and_only_the_wanted_are_tried(landing, converter, monkeypatch):
    records = as_records(HISTORY)
    seq, kind, _ = records[20]
    records[20] = (seq, kind, b"{")
    with monkeypatch.context() as patch:
        read_by_an_older_version(patch)
        land(landing, records)
        converter.convert()
    manifest = landing.read()
    nameless = quarantine.Poison(0, "no_seq", "the record has no ts_seq header", offset=7)
    source = quarantine.add(landing, LEDGER, manifest.sources[LEDGER], [nameless])
    landing.commit(manifest.with_source(LEDGER, source))

    def in_quarantine():
        return {(one.event.seq, one.event.code) for one in quarantine.listing(landing)}

    unknown = {(event.seq, "unknown_type") for event in UNKNOWN}
    assert in_quarantine() == {(0, "no_seq"), (seq, "not_json"), *unknown}
    wanted = UNKNOWN[0].seq
    done = rewriting.requeue(landing, converter, LEDGER, lambda one: one.seq == wanted)
    assert (done.tried, done.typed) == (1, 1)
    assert in_quarantine() == {(0, "no_seq"), (seq, "not_json"), *unknown} - {
        (wanted, "unknown_type")
    }
    done = rewriting.requeue(landing, converter, LEDGER)
    assert (done.tried, done.typed) == (len(UNKNOWN), len(UNKNOWN) - 1)
    assert in_quarantine() == {(0, "no_seq"), (seq, "not_json")}
    assert quarantine.counts(landing) == {(LEDGER, "no_seq"): 1, (LEDGER, "not_json"): 1}
    landing.sweep()
    assert in_quarantine() == {(0, "no_seq"), (seq, "not_json")}
    with pytest.raises(rewriting.UnknownSourceError, match=f"there is: {LEDGER}"):
        rewriting.requeue(landing, converter, "nobody")


def test_the_first_and_the_last_of_a_range_have_files_of_their_own(landing, converter, right):
    """The range of what is requeued is that of the file beside it: neither may replace the other."""
    parse = Converter._parse
    bad = {1, len(HISTORY)}

    def older(self, name, source, within, only):
        poisons = parse(self, name, source, within, only)
        for number in range(len(typed.JOURNAL_EVENTS)):
            self._duckdb.execute(f"delete from parsed_{number} where seq in (1, {len(HISTORY)})")
        return [*poisons, *(quarantine.Poison(seq, "bad_field", "x") for seq in bad)]

    land(landing, as_records(HISTORY))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Converter, "_parse", older)
        converter.convert()
    assert rewriting.requeue(landing, converter, LEDGER).typed == 2
    landing.sweep()
    assert typed_contents(landing) == right


def test_late_rows_are_joined_in_order(landing, converter, right, monkeypatch):
    with monkeypatch.context() as patch:
        read_by_an_older_version(patch)
        for start in range(0, len(HISTORY), 25):
            land(landing, as_records(HISTORY[start : start + 25]))
            converter.convert()
    rewriting.requeue(landing, converter, LEDGER)
    monkeypatch.setattr("pipelines.ingestion.compaction.MANY_FILES", 1)
    assert compact(landing) > 10
    landing.sweep()
    assert typed_contents(landing) == right
    (file,) = landing.read().sources[LEDGER].typed["hold_entries"]
    rows = duckdb.sql(f"select seq, entry_no from read_parquet('{landing.local(file)}')").fetchall()
    assert rows == sorted(rows)


def test_a_crash_before_the_commit_changes_nothing(landing, converter, right, monkeypatch):
    with monkeypatch.context() as patch:
        read_by_an_older_version(patch)
        land(landing, as_records(HISTORY))
        converter.convert()
    before = landing.read()

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Landing, "commit", dies)
        for attempt in (rewriting.requeue, rewriting.retype):
            with pytest.raises(KeyboardInterrupt):
                attempt(landing, converter, LEDGER)
    assert landing.read() == before
    landing.hold()
    assert landing.sweep() > 0
    rewriting.requeue(landing, converter, LEDGER)
    assert typed_contents(landing) == right


def test_a_landing_of_an_older_form_is_named_and_typed_anew(landing, converter, right):
    """As written before `ends_hold` was a column, with the manifest of that time."""
    land(landing, as_records(HISTORY))
    with pytest.MonkeyPatch.context() as patch:
        columns = tuple(c for c in TRANSACTIONS.columns if c[0] != "ends_hold")
        older = dataclasses.replace(TRANSACTIONS, columns=columns)
        patch.setattr(typed, "TABLES", tuple(older if t is TRANSACTIONS else t for t in TABLES))
        present_form.cache_clear()
        converter.convert()
        older_form = landing.read().sources[LEDGER].typed_form
        assert rewriting.outdated(landing.read()) == {}
    present_form.cache_clear()
    found = rewriting.outdated(landing.read())
    assert set(found) == {LEDGER}
    assert f"form {older_form}" in found[LEDGER]
    assert f"tally pipeline retype {LEDGER}" in found[LEDGER]
    # What lands later has today's form, but the source is still as old as its oldest file.
    land(landing, as_records(ledger_events.history(LEDGER, 90))[len(HISTORY) :])
    converter.convert()
    assert set(rewriting.outdated(landing.read())) == {LEDGER}
    assert typed_contents(landing) != right
    events = rewriting.retype(landing, converter, LEDGER)
    landing.sweep()
    assert events == landing.read().sources[LEDGER].seq
    assert rewriting.outdated(landing.read()) == {}
    again = rewriting.retype(landing, converter, LEDGER)
    assert again == events


def test_a_landing_without_any_form_is_of_an_older_one(landing, converter):
    land(landing, as_records(HISTORY))
    converter.convert()
    manifest = landing.read()
    source = msgspec.structs.replace(manifest.sources[LEDGER], typed_form="")
    landing.commit(manifest.with_source(LEDGER, source))
    assert "form unknown" in rewriting.outdated(landing.read())[LEDGER]


def test_marts_are_told_of_a_rewriting_until_they_are_built_from_it(landing, converter):
    land(landing, as_records(HISTORY))
    converter.convert()
    with duckdb.connect(":memory:") as connection:

        def is_rewritten() -> bool:
            database.make_landing_views(connection, landing)
            return database.is_rewritten(connection)

        assert not is_rewritten()
        database.note_built(connection)
        rewriting.retype(landing, converter, LEDGER)
        assert is_rewritten()
        assert is_rewritten()  # a build that failed changes nothing
        database.note_built(connection)
        assert not is_rewritten()


def test_a_quarantine_of_an_older_version_is_named_not_overlooked(landing, converter):
    land(landing, as_records(HISTORY))
    converter.convert()
    manifest = landing.read()
    file = DataFile(
        path=f"{LEDGER}/000000000001-000000000001.jsonl", first_seq=1, last_seq=1, rows=1
    )
    source = msgspec.structs.replace(manifest.sources[LEDGER], quarantine=[file])
    landing.commit(manifest.with_source(LEDGER, source))
    for attempt in (
        lambda: list(quarantine.listing(landing)),
        lambda: rewriting.requeue(landing, converter, LEDGER),
        lambda: rewriting.retype(landing, converter, LEDGER),
    ):
        with pytest.raises(FileNotFoundError, match="tally pipeline reland"):
            attempt()


def test_typing_anew_gives_the_same_rows_and_the_same_quarantine(landing, converter):
    records = as_records(HISTORY)
    records[30] = (records[30][0], "transaction.invented", encode(HISTORY[30]))
    land(landing, records)
    converter.convert()
    before, listed = typed_contents(landing), list(quarantine.listing(landing))
    assert len(listed) == 1
    rewriting.retype(landing, converter, LEDGER)
    landing.sweep()
    assert typed_contents(landing) == before
    assert list(quarantine.listing(landing)) == listed
