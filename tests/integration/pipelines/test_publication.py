"""What is published is checked, whole, and equal to the ledger at a stated seq (P7)."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger_service.contract.events import HoldPlaced, HoldReleased
from ledger_service.contract.snapshots import (
    CheckResult,
    part_paths,
    pins,
    read_manifest,
    read_progress,
)
from pipelines.checks.identities import check_identities
from pipelines.publication import snapshot
from pipelines.publication.parts import KnownParts, Mart, MartTypeError, write_parts
from pipelines.publication.snapshot import Outcome, SnapshotDamagedError
from pipelines.warehouse import database
from pipelines.warehouse.dbt import PROJECT, Dbt, DbtError
from pipelines.warehouse.lock import WarehouseBusyError, WarehouseLock
from tests import ledger_events
from tests.integration.pipelines.conftest import LEDGER
from tests.ledger_events import CLEARING


@contextlib.contextmanager
def doctored(world, change: str, mart: str):
    """A mart that somebody changed, and put right again afterwards."""
    with database.opened(world.flow.places.warehouse_file) as connection:
        connection.execute(f"create table kept as select * from marts.{mart}")
        connection.execute(change)
    try:
        yield
    finally:
        with database.opened(world.flow.places.warehouse_file) as connection:
            connection.execute(f"delete from marts.{mart}")
            connection.execute(f"insert into marts.{mart} select * from kept")
            connection.execute("drop table kept")


def current(world, name="general"):
    return read_manifest(world.flow.places.snapshots, name)


def parts_of(manifest, mart):
    return [part.path for part in manifest.marts[mart]]


def test_the_marts_are_published_with_their_seq_and_nothing_restricted_in_general(world):
    publication = world.publish()
    assert publication.blocked_by == [], publication.outcomes
    general, restricted = current(world), current(world, "restricted")
    seq = world.oracle.events[LEDGER][-1].seq
    assert general.as_of == {LEDGER: seq, "parties": 3, "statements": 3}
    assert set(restricted.marts) == {
        "alert_candidates",
        "alert_candidate_entries",
        "ctr_candidates",
    }
    assert not set(restricted.marts) & set(general.marts)
    assert {"entries", "reconciliation_days", "build"} <= set(general.marts)
    (entries,) = part_paths(world.flow.places.snapshots, general, "entries")
    newest = duckdb.sql(f"select max(last_seq) from read_parquet('{entries}')").fetchall()
    assert newest == [(seq,)]
    progress = read_progress(world.flow.places.snapshots)
    assert progress.landed[LEDGER] == progress.published[LEDGER] == seq
    assert progress.blocked_by == []


def test_no_published_column_is_a_float(world):
    world.publish()
    root = world.flow.places.snapshots
    for name in ("general", "restricted"):
        for part in (root / name / "parts").glob("*.parquet"):
            schema = pq.read_schema(part)
            assert not [field for field in schema if pa.types.is_floating(field.type)], part


def test_a_mart_with_a_float_is_refused():
    with duckdb.connect(":memory:") as connection:
        connection.execute("create schema marts; create table marts.m as select sum(1) as money")
        with pytest.raises(MartTypeError, match="money HUGEINT"):
            write_parts(connection, Mart("m", "general", ("money",)), None, KnownParts())


@pytest.mark.parametrize(
    ("mart", "change", "caught_by"),
    [
        (
            "account_balances_current",
            "debits = debits + 1, credits = credits + 1 where account = 'bank:fbo'",
            "two_roads_balances",
        ),
        (
            "trial_balance_daily",
            "closing_debits = closing_debits + 1, closing_credits = closing_credits + 1",
            "two_roads_trial_balance",
        ),
        ("entries", "amount = amount + 1 where entry_no = 0 and seq = 20", "debits_equal_credits"),
        ("entries", "signed_amount = signed_amount + 1 where seq = 20", "balances_equal_entries"),
        ("statement_lines", "exponent = null", "places_known"),
        (
            "account_balances_current",
            "pending_debits = pending_debits + 1 where account = 'bank:fbo'",
            "pending_equals_open_holds",
        ),
        ("holds", "pending = pending + 1 where state = 'open'", "two_roads_holds"),
        ("holds", "state = 'voided' where state = 'open'", "two_roads_holds"),
        ("holds", "state = 'open' where state = 'voided'", "two_roads_holds"),
    ],
)
def test_one_cent_off_blocks_publication(world, mart, change, caught_by):
    world.publish()
    before = current(world)
    with doctored(world, f"update marts.{mart} set {change}", mart):
        publication = world.publish()
        assert caught_by in publication.blocked_by
        assert current(world) == before
        assert caught_by in read_progress(world.flow.places.snapshots).blocked_by
    assert world.publish().blocked_by == []
    assert read_progress(world.flow.places.snapshots).blocked_by == []


def test_what_became_of_holds_since_is_no_difference(world):
    """The ledger tells its holds as they stand now, the marts as of their own seq."""
    events = world.oracle.events[LEDGER]
    *_, one, other = (e for e in events if isinstance(e, HoldPlaced))
    head = {"ledger": LEDGER, "recorded_at": one.recorded_at, "actor": "key_loader"}
    voided = HoldReleased(
        seq=events[-1].seq + 1, hold=one.seq, cause="voided", entries=one.entries, **head
    )
    entry = other.entries[0]
    captured = ledger_events.posting(
        LEDGER, voided.seq + 1, "card_purchase", debit=entry.account, credit=CLEARING, amount=1,
        captures=other.seq,
    )  # fmt: skip
    events += [voided, captured]
    try:
        assert world.publish().blocked_by == []
    finally:
        del events[-2:]


def test_a_ledger_that_does_not_answer_blocks_publication(world):
    world.oracle.answers = False
    try:
        publication = world.publish()
    finally:
        world.oracle.answers = True
    roads = {"two_roads_balances", "two_roads_trial_balance", "two_roads_holds"}
    assert roads <= set(publication.blocked_by)


def test_only_what_changed_is_written_again(world):
    before, after = (one.publication.manifests["general"] for one in world.rounds[::2])
    assert after.as_of[LEDGER] == before.as_of[LEDGER] + 1
    assert after.version == before.version + 2, "one was of restricted"
    changed = {m for m in after.marts if parts_of(after, m) != parts_of(before, m)}
    assert {"entries", "transactions", "account_balances_current", "build"} <= changed
    unchanged = {"accounts", "banking_calendar", "parties", "statement_lines", "holds", "periods"}
    assert not unchanged & changed


def test_a_crash_between_the_pointers_leaves_whole_snapshots(world, monkeypatch):
    world.publish()
    before = current(world, "restricted")
    switch = snapshot._switch

    def dies_at_restricted(folder, manifest):
        if manifest.name == "restricted":
            raise KeyboardInterrupt
        switch(folder, manifest)

    monkeypatch.setattr(snapshot, "_switch", dies_at_restricted)
    with pytest.raises(KeyboardInterrupt):
        world.publish()
    monkeypatch.undo()
    # General is ahead, restricted is the old one; both are whole.
    assert current(world, "restricted") == before
    assert current(world).version == before.version + 1
    for name in ("general", "restricted"):
        snapshot.verify(world.flow.places.snapshots, current(world, name))
    world.publish()
    assert current(world).version == current(world, "restricted").version == before.version + 2


def test_the_last_ten_are_kept_and_damage_is_found(world, monkeypatch):
    monkeypatch.setattr(snapshot, "KEEP_S", 0)
    good = [Outcome(CheckResult("x", passed=True, blocking=True))]
    root = world.flow.places.snapshots / "general"
    left = [root / ".CURRENT.0a1b2c3d", root / "manifests" / ".00000001.json.0a1b2c3d"]
    for draft in left:
        draft.write_bytes(b"what a publisher had in hand when it was killed")
    for _ in range(snapshot.KEEP + 2):
        world.flow.publish(good)
    assert not [draft for draft in left if draft.exists()]
    kept = {int(path.stem) for path in (root / "manifests").glob("*.json")}
    newest, cited = current(world).version, set(pins(root.parent, "general").values())
    assert kept == cited | set(range(newest - snapshot.KEEP + 1, newest + 1))
    named = {
        part["path"]
        for path in (root / "manifests").glob("*.json")
        for parts in json.loads(path.read_bytes())["marts"].values()
        for part in parts
    }
    assert {f"parts/{path.name}" for path in (root / "parts").iterdir()} == named
    victim = root / parts_of(current(world), "accounts")[0]
    content = victim.read_bytes()
    table = pq.read_table(victim)
    pq.write_table(table.slice(1), victim)
    with pytest.raises(SnapshotDamagedError, match="accounts"):
        snapshot.verify(world.flow.places.snapshots, current(world))
    victim.write_bytes(content)


def test_the_analysts_documentation_shows_nothing_of_alerts(world):
    from dbt.task.docs import DOCS_INDEX_FILE_PATH  # seconds, which collecting tests can spare

    world.publish()
    general, restricted = (file.read_text() for file in world.flow.document())
    # dbt's own page says "alert(" to browsers; what is asked here is what we put into it
    page = Path(DOCS_INDEX_FILE_PATH).read_text()
    own, _ = page.split('"MANIFEST.JSON INLINE DATA"')
    added = general[len(own) :].lower()
    assert "account_balances_daily" in added
    assert "what was set aside, minor units" in added
    compiled = "sum(case when side = 'debit' then amount else 0 end)"
    assert compiled in added, "the marts' SQL is there"
    monitoring = [path.stem for path in (PROJECT / "models").rglob("monitoring/*.sql")]
    assert len(monitoring) > 8
    for word in (*monitoring, "structuring", "typology", "rule_parameters"):
        assert word in restricted, word
        assert word not in added, word
    root = world.flow.places.snapshots
    assert {path.parent.parent for path in root.rglob("docs/index.html")} == {
        root / "general", root / "restricted",
    }  # fmt: skip
    # and the manifest of the snapshot tells only of its own marts
    manifest = (root / "general" / "manifests" / f"{current(world).version:08d}.json").read_text()
    assert "alert" not in manifest
    assert set(current(world).grain) == set(current(world).marts)


def test_the_warehouse_has_one_holder_and_the_next_shows_that_it_waits(world, tmp_path):
    lock = WarehouseLock(tmp_path)
    script = (
        "import sys; from pathlib import Path; from pipelines.warehouse.lock import WarehouseLock\n"
        "with WarehouseLock(Path(sys.argv[1])).held(5): print('held', flush=True)"
    )
    with lock.held(1):
        assert not lock.is_wanted()
        with pytest.raises(WarehouseBusyError, match="SIGTERM"), WarehouseLock(tmp_path).held(0.2):
            pass
        other = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE
        )
        while not lock.is_wanted():
            assert other.poll() is None
    assert other.stdout.readline() == b"held\n"
    assert other.wait() == 0


def test_a_process_compares_its_contracts_until_increments_have_passed(world):
    """A mart that is another than its contract stops a process's first increments; the same SQL makes
    the same columns from then on."""
    dbt, file = Dbt(world.flow.places), world.flow.places.warehouse_file
    for _ in range(2):
        with database.opened(file) as connection:
            connection.execute("alter table marts.entries add column surplus integer")
        with pytest.raises(DbtError, match=r"entries: error: (?s:.*) out of sync"):
            dbt.run(["general"])
        with database.opened(file) as connection:
            connection.execute("alter table marts.entries drop column surplus")
        dbt.run(["general"])
    dbt.run(["general"])
    assert world.publish().blocked_by == []


def test_that_each_transaction_balances_is_looked_at_where_it_was_not_before(world):
    last = world.oracle.events[LEDGER][-1].seq
    change = f"update marts.entries set amount = amount + 1 where seq = {last} and entry_no = 0"

    def failed(since: int) -> set[str]:
        with database.opened(world.flow.places.warehouse_file) as connection:
            found = check_identities(connection, since)
        return {one.check.name for one in found if not one.check.passed}

    with doctored(world, change, "entries"):
        assert {"transactions_balance", "debits_equal_credits"} <= failed(since=0)
        assert "transactions_balance" in failed(since=last - 1)
        # What was looked at before and changed since still shows in what its ledger sums up to.
        assert failed(since=last) == {"debits_equal_credits"}
        assert world.publish().blocked_by == ["debits_equal_credits"]
    assert world.publish().blocked_by == []
