"""Alerts in a real PostgreSQL, from snapshots as they are published."""

from __future__ import annotations

import datetime as dt
import threading

import msgspec
import psycopg
import pytest
from psycopg_pool import ConnectionPool

from ledger_service.contract.events import AlertDecided, decode_stream
from monitoring import audit
from monitoring.alerts import store
from monitoring.alerts.decisions import DecisionRefused, decide
from monitoring.alerts.intake import take_in
from monitoring.database import Connection
from monitoring.marts import Marts
from monitoring.service import Watcher
from monitoring.verify import differences
from tests.monitoring_house import House

NOW = dt.datetime(2026, 8, 15, 9, 0, tzinfo=dt.UTC)

Pool = ConnectionPool[Connection]


def intake(pool: Pool, house: House) -> tuple[int, int]:
    """Opened and changed."""
    with pool.connection() as connection:
        taken = take_in(connection, Marts(house.folder), NOW)
    return taken.opened, taken.changed


def rows(pool: Pool, sql: str) -> list[dict]:
    with pool.connection() as connection:
        return connection.execute(sql).fetchall()


def verified(pool: Pool) -> None:
    with pool.connection() as connection:
        assert differences(connection) == []


def test_intake_opens_once_whatever_is_republished(pool: Pool, published: House) -> None:
    assert intake(pool, published) == (3, 0)
    first = rows(pool, "select * from alert_event order by event_id")
    published.publish(published.candidates()[::-1])
    assert intake(pool, published) == (0, 0)
    published.publish([])
    assert intake(pool, published) == (0, 0)
    published.publish()
    assert intake(pool, published) == (0, 0)
    assert rows(pool, "select * from alert_event order by event_id") == first
    assert {row["status"] for row in rows(pool, "select status from alert")} == {"open"}
    kept = rows(
        pool, "select rule_version, parameters_hash, snapshot_version, as_of_seq from alert"
    )
    assert {tuple(row.values()) for row in kept} == {
        ("1", "9f3c21d0aa41", 1, len(published.journal))
    }
    verified(pool)


def test_evidence_sums_to_the_amount(pool: Pool, published: House) -> None:
    intake(pool, published)
    sums = rows(
        pool,
        "select a.amount, sum(e.amount) as evidence "
        "from alert a join alert_evidence e using (alert_id) "
        "where e.role = any(a.roles) group by a.alert_id, a.amount",
    )
    assert len(sums) == 3
    assert all(row["amount"] == row["evidence"] for row in sums)


def test_a_reversal_leaves_a_linked_correction(pool: Pool, published: House) -> None:
    intake(pool, published)
    reversed_seq = published.seqs("cash_deposit")[0]
    reversal = published.reverse(reversed_seq)
    published.publish(published.candidates()[1:])
    assert intake(pool, published) == (0, 1)
    assert intake(pool, published) == (0, 0)
    (event,) = rows(pool, "select body from alert_event where event_type = 'corrected'")
    assert event["body"]["reversals"] == [{"seq": reversed_seq, "reversed_by": reversal}]
    (alert,) = rows(pool, "select * from alert where rule = 'structuring'")
    assert (alert["status"], alert["corrected"]) == ("open", True)
    verified(pool)


def test_concurrent_intakes_open_one_alert_an_episode(pool: Pool, published: House) -> None:
    start, failures = threading.Barrier(6), []

    def run() -> None:
        try:
            start.wait()
            intake(pool, published)
        except Exception as error:  # noqa: BLE001 - any failure is one
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert rows(pool, "select count(*) as n from alert_event") == [{"n": 3}]
    assert rows(pool, "select count(*) as n from intake") == [{"n": 1}]


def test_history_takes_no_change(pool: Pool) -> None:
    for table in ("alert_event", "decision_outbox", "audit", "intake"):
        for change in ("update {} set recorded_at = now()", "delete from {}", "truncate {}"):
            with pool.connection() as connection, pytest.raises(psycopg.errors.RestrictViolation):
                connection.execute(change.format(table))


def test_decisions_are_events_with_audit_and_outbox(pool: Pool, published: House) -> None:
    intake(pool, published)
    name = rows(pool, "select alert_id from alert where rule = 'structuring'")[0]["alert_id"]
    steps = [("escalate", "escalated"), ("reopen", "reopened"), ("close", "closed")]
    for version, (decision, _) in enumerate(steps, 1):
        with pool.connection() as connection:
            decide(
                connection,
                name,
                decision,
                reason="looked at it",
                actor="usr_1",
                seen_version=version,
                moment=NOW,
            )
    outbox = [
        decode_stream(bytes(row["bytes"]))
        for row in rows(pool, "select bytes from decision_outbox order by seq")
    ]
    assert [(event.seq, event.decision) for event in outbox if isinstance(event, AlertDecided)] == [
        (1, "escalated"), (2, "reopened"), (3, "closed"),
    ]  # fmt: skip
    assert [row["outcome"] for row in rows(pool, "select outcome from audit order by seq")] == [
        "escalated",
        "open",
        "closed",
    ]
    verified(pool)


def test_decisions_that_do_not_fit_are_refused(pool: Pool, published: House) -> None:
    intake(pool, published)
    name = rows(pool, "select alert_id from alert limit 1")[0]["alert_id"]
    for known, decision, reason, seen, code in [
        (name, "close", "  ", 1, "reason_missing"),
        (name, "close", "x" * 2001, 1, "reason_too_long"),
        (name, "close", "fine", 7, "alert_changed"),
        (name, "reopen", "fine", 1, "decision_not_allowed"),
        (name, "drop table", "fine", 1, "decision_not_allowed"),
        ("alr_none", "close", "fine", 1, "alert_not_found"),
    ]:
        with pool.connection() as connection, pytest.raises(DecisionRefused) as refusal:
            decide(
                connection, known, decision, reason=reason, actor="u", seen_version=seen, moment=NOW
            )
        assert refusal.value.code == code
    assert rows(pool, "select count(*) as n from audit") == [{"n": 0}]


def test_two_deciders_at_once_one_decision(pool: Pool, published: House) -> None:
    intake(pool, published)
    name = rows(pool, "select alert_id from alert limit 1")[0]["alert_id"]
    outcomes = []

    def run(decision: str) -> None:
        try:
            with pool.connection() as connection:
                decide(
                    connection,
                    name,
                    decision,
                    reason="r",
                    actor=decision,
                    seen_version=1,
                    moment=NOW,
                )
            outcomes.append("done")
        except DecisionRefused as refusal:
            outcomes.append(refusal.code)

    threads = [threading.Thread(target=run, args=(one,)) for one in ("close", "escalate")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["alert_changed", "done"]


def test_verify_names_what_was_tampered_with(pool: Pool, published: House) -> None:
    intake(pool, published)
    with pool.connection() as connection:
        for number in range(3):
            audit.record(
                connection, actor="a", action="x", subject=str(number), outcome="done", moment=NOW
            )
        name = store.load(connection)[0].alert_id
        connection.execute("update alert set amount = amount + 1 where alert_id = %s", [name])
        connection.execute("alter table audit disable trigger append_only")
        connection.execute("update audit set subject = 'other' where seq = 2")
        found = differences(connection)
        assert len(found) == 2
        assert name in found[0]
        assert "amount" in found[0]
        assert "row 2" in found[1]
        connection.rollback()


def test_the_watcher_follows_both_pointers_and_waits_for_the_first(pool: Pool, tmp_path) -> None:
    house = House(tmp_path / "snapshots")
    watcher = Watcher(pool, Marts(house.folder))
    assert watcher.step(NOW) is None
    house.publish()
    figures = watcher.step(NOW)
    assert figures == {"snapshot_version": 1, "candidates": 3, "alerts": {"open": 3}}
    assert watcher.step(NOW) is None
    # The general snapshot alone moves on and tells of a reversal.
    candidates = house.candidates()[1:]
    house.publish(candidates)
    watcher.step(NOW)
    house.reverse(house.seqs("cash_deposit")[0])
    house.publish(candidates, restricted=False)
    assert watcher.step(NOW) is not None
    assert rows(pool, "select corrected from alert where rule = 'structuring'") == [
        {"corrected": True}
    ]


def test_a_broken_manifest_changes_nothing(pool: Pool, published: House) -> None:
    watcher = Watcher(pool, Marts(published.folder))
    (published.folder / "restricted" / "CURRENT").write_text("00000001.json")
    (published.folder / "restricted" / "manifests" / "00000001.json").write_bytes(b"{")
    with pytest.raises(msgspec.DecodeError):
        watcher.step(NOW)
    assert rows(pool, "select count(*) as n from alert") == [{"n": 0}]
