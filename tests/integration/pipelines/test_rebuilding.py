"""Whatever is dropped comes back equal: the warehouse, the landing, an event that was in quarantine."""

from __future__ import annotations

import shutil

import pytest

from ledger_service.contract import topics
from pipelines.ingestion.quarantine import Poison
from pipelines.ingestion.typed import Converter
from tests import ledger_events
from tests.integration.pipelines.conftest import LEDGER
from tests.integration.pipelines.surroundings import typed_contents


def published(world) -> dict[str, list[str]]:
    """The parts of every mart, named by what is in them; `build` says when it was built."""
    publication = world.publish()
    assert publication.blocked_by == [], publication.outcomes
    return {
        mart: [part.content_hash for part in parts]
        for manifest in publication.manifests.values()
        for mart, parts in manifest.marts.items()
        if mart != "build"
    }


def land_and_build(world) -> None:
    """Bring the marts up to the topics; on a slow machine the streaming run may have left some."""
    landed = 0
    while events := world.flow.land().events:
        landed += events
    if landed:
        world.flow.convert()
        world.flow.build()


def test_rebuilding_from_the_landing_gives_the_same_contents(world):
    before = published(world)
    world.flow.drop_warehouse()
    world.flow.recover()
    world.flow.build()
    assert published(world) == before


def test_landing_again_from_a_topic_that_was_published_again_gives_the_same_contents(world):
    land_and_build(world)
    before, rows = published(world), typed_contents(world.flow.landing)
    topic = topics.journal_topic(LEDGER)
    world.writer.delete(topic)
    world.writer.create(topic)
    world.writer.write_events(world.oracle.events[LEDGER])
    shutil.rmtree(world.flow.places.landing)
    world.flow.reader.leave_all()
    world.flow.drop_warehouse()
    world.flow.recover()
    land_and_build(world)
    assert typed_contents(world.flow.landing) == rows
    assert published(world) == before


def test_an_event_out_of_quarantine_reaches_marts_that_were_past_it(world):
    """Late in the landing, in its place in the marts: as if all had been built anew."""
    parse = Converter._parse
    refused = world.oracle.events[LEDGER][-1].seq + 1

    def strict(self, name, source, within, only):
        poisons = parse(self, name, source, within, only)
        if name == LEDGER and within[0] <= refused <= within[1]:
            for (table,) in self._duckdb.execute(
                "select distinct table_name from duckdb_tables() where table_name like 'parsed_%'"
            ).fetchall():
                self._duckdb.execute(f"delete from {table} where seq = {refused}")
            poisons.append(Poison(refused, "bad_field", "this version is too strict"))
        return poisons

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Converter, "_parse", strict)
        world.post(5_00, debit=ledger_events.customer(1))
        world.post(7_00, debit=ledger_events.customer(1))
        land_and_build(world)
    publication = world.publish()
    assert "two_roads_balances" in publication.blocked_by
    failed = {one.check.name: one.check.detail for one in publication.outcomes}
    assert failed["quarantine_empty"].startswith("1 events wait")
    done = world.flow.requeue(LEDGER, lambda one: one.code == "bad_field")
    assert (done.tried, done.typed) == (1, 1)
    assert world.flow.is_rewritten()
    world.flow.build()
    assert not world.flow.is_rewritten()
    late, rows = published(world), typed_contents(world.flow.landing)
    world.flow.retype(LEDGER)
    world.flow.drop_warehouse()
    world.flow.recover()
    world.flow.build()
    assert typed_contents(world.flow.landing) == rows
    assert published(world) == late


def test_a_landing_in_an_older_form_stops_publication_and_says_what_to_run(world, monkeypatch):
    monkeypatch.setattr("pipelines.ingestion.rewriting.present_form", lambda: "newer")
    publication = world.publish()
    assert "landing_in_present_form" in publication.blocked_by
    (outcome,) = [o for o in publication.outcomes if o.check.name == "landing_in_present_form"]
    assert f"tally pipeline retype {LEDGER}" in outcome.check.detail
    monkeypatch.undo()
    assert world.publish().blocked_by == []
