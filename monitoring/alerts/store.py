"""Alerts in PostgreSQL: events appended, and the state they come to, in one transaction."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from psycopg import sql
from psycopg.types.json import Jsonb

from ledger_service.contract.events import AlertDecided, timestamp
from ledger_service.contract.events import encode as encode_contract
from monitoring.alerts.alert import (
    Alert,
    AlertEvent,
    Closed,
    Escalated,
    Evidence,
    Reopened,
    decode,
    encode,
    event_name,
)
from monitoring.database import Connection

STREAM = "alert_decisions"

_EPISODES = """
select alert_id, episode from alert_episode
 where %(names)s::text[] is null or alert_id = any(%(names)s)
"""
_EVIDENCE = """
select * from alert_evidence where %(names)s::text[] is null or alert_id = any(%(names)s)
"""
_STORE_EPISODE = """
insert into alert_episode (rule, ledger, subject, episode, alert_id) values (%s, %s, %s, %s, %s)
on conflict do nothing
"""
_STORE_EVIDENCE = """
insert into alert_evidence
  (alert_id, seq, entry_no, role, amount, currency, added_by, removed_by)
values (%s, %s, %s, %s, %s, %s, %s, %s)
on conflict (alert_id, seq, entry_no, role) do update
   set added_by = excluded.added_by, removed_by = excluded.removed_by
 where (alert_evidence.added_by, alert_evidence.removed_by)
       is distinct from (excluded.added_by, excluded.removed_by)
"""

_COLUMNS = tuple(name for name in Alert.__struct_fields__ if name not in ("episodes", "evidence"))


def lock_intake(connection: Connection) -> None:
    """Wait for any other intake to commit: two would each open the alert of one episode."""
    connection.execute("select pg_advisory_xact_lock(hashtext('monitoring.intake'))")


def load(connection: Connection, names: Sequence[str] | None = None) -> list[Alert]:
    """Alerts as they are, all or the named ones; locked against decisions until the commit."""
    values = {"names": None if names is None else list(names)}
    rows = connection.execute(
        "select * from alert where %(names)s::text[] is null or alert_id = any(%(names)s) "
        "order by alert_id for update",
        values,
    ).fetchall()
    episodes: dict[str, list[str]] = {}
    for row in connection.execute(_EPISODES, values):
        episodes.setdefault(row["alert_id"], []).append(row["episode"])
    evidence: dict[str, dict[Evidence, tuple[int, int | None]]] = {}
    for row in connection.execute(_EVIDENCE, values):
        entry = Evidence(
            row["seq"], row["entry_no"], row["role"], int(row["amount"]), row["currency"]
        )
        evidence.setdefault(row["alert_id"], {})[entry] = (row["added_by"], row["removed_by"])
    return [
        Alert(
            **{**row, "amount": int(row["amount"])},
            episodes=sorted(episodes.get(row["alert_id"], [])),
            evidence=evidence.get(row["alert_id"], {}),
        )
        for row in rows
    ]


def append(
    connection: Connection,
    events: Iterable[tuple[str, AlertEvent]],
    after: dict[str, Alert],
    *,
    before: dict[str, int],
    actor: str,
    moment: dt.datetime,
) -> None:
    """Append `events`, store the states `after` them, and put decisions into the outbox.

    `before` gives each known alert's version. Errors: `psycopg.errors.UniqueViolation` where
    another transaction appended to the same alert first.
    """
    versions = dict(before)
    appended = []
    decided = []
    for name, event in events:
        versions[name] = versions.get(name, 0) + 1
        appended.append(
            (name, versions[name], event_name(event), moment, actor, Jsonb(encode(event)))
        )
        if isinstance(event, Closed | Escalated | Reopened):
            decided.append((name, event))
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into alert_event (alert_id, alert_seq, event_type, recorded_at, actor, body) "
            "values (%s, %s, %s, %s, %s, %s)",
            appended,
        )
    # Merged alerts refer to the one they went into: that one is stored first.
    changed = sorted(
        {name for name, *_ in appended}, key=lambda name: after[name].merged_into is not None
    )
    for name in changed:
        _store(connection, after[name])
    for name, event in decided:
        _announce(connection, after[name], event, actor=actor, moment=moment)


def _store(connection: Connection, alert: Alert) -> None:
    columns = [sql.Identifier(name) for name in _COLUMNS]
    connection.execute(
        sql.SQL(
            "insert into alert ({}) values ({}) on conflict (alert_id) do update set ({}) = row({})"
        ).format(
            sql.SQL(", ").join(columns),
            sql.SQL(", ").join(map(sql.Placeholder, _COLUMNS)),
            sql.SQL(", ").join(columns),
            sql.SQL(", ").join(sql.SQL("excluded.{}").format(column) for column in columns),
        ),
        {name: getattr(alert, name) for name in _COLUMNS},
    )
    key = (alert.rule, alert.ledger, alert.subject)
    evidence = [
        (alert.alert_id, row.seq, row.entry_no, row.role, row.amount, row.currency, added, removed)
        for row, (added, removed) in sorted(alert.evidence.items())
    ]
    with connection.cursor() as cursor:
        cursor.executemany(
            _STORE_EPISODE, [(*key, episode, alert.alert_id) for episode in alert.episodes]
        )
        cursor.executemany(_STORE_EVIDENCE, evidence)


def _announce(
    connection: Connection,
    alert: Alert,
    event: Closed | Escalated | Reopened,
    *,
    actor: str,
    moment: dt.datetime,
) -> None:
    """Put a decision into the outbox of its stream, gapless in the order of commits."""
    connection.execute("select pg_advisory_xact_lock(hashtext('monitoring.decision_outbox'))")
    row = connection.execute(
        "select coalesce(max(seq), 0) + 1 as seq from decision_outbox"
    ).fetchone()
    seq = row["seq"] if row else 1
    decision: Any = event_name(event)
    announced = AlertDecided(
        stream=STREAM,
        seq=seq,
        recorded_at=timestamp(moment),
        alert=alert.alert_id,
        rule=alert.rule,
        decision=decision,
        reason=event.reason,
        actor=actor,
    )
    connection.execute(
        "insert into decision_outbox (seq, alert_id, recorded_at, bytes) values (%s, %s, %s, %s)",
        (seq, alert.alert_id, moment, encode_contract(announced)),
    )


class Recorded(msgspec.Struct, frozen=True):
    """An event as stored."""

    alert_id: str
    alert_seq: int
    recorded_at: dt.datetime
    actor: str
    event: AlertEvent


def events_of(connection: Connection, name: str | None = None) -> list[Recorded]:
    """Events in the order they were appended, of one alert or of all."""
    rows = connection.execute(
        "select alert_id, alert_seq, recorded_at, actor, body from alert_event "
        "where %(name)s::text is null or alert_id = %(name)s order by event_id",
        {"name": name},
    )
    return [
        Recorded(
            row["alert_id"], row["alert_seq"], row["recorded_at"], row["actor"], decode(row["body"])
        )
        for row in rows
    ]
