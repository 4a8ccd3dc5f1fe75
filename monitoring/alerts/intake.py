"""Takes a published snapshot's alert candidates into the alerts."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec
import structlog
from psycopg.types.json import Jsonb

from monitoring.alerts import store
from monitoring.alerts.alert import MONITOR, Candidate, Evidence, Opened
from monitoring.alerts.plan import Plan, Snapshot
from monitoring.database import Connection
from monitoring.marts import Marts, NotPublished, Published

_log = structlog.get_logger()


_CANDIDATE_FIELDS = (
    *("rule", "parameters_hash", "ledger", "subject", "subject_kind", "episode"),
    *("score", "currency", "exponent", "why"),
)


class Taken(msgspec.Struct, frozen=True):
    """What an intake did."""

    snapshot_version: int
    candidates: int
    opened: int
    changed: int


def candidates_of(restricted: Published) -> tuple[Candidate, ...]:
    """Every candidate of the snapshot with its entries."""
    entries: dict[str, list[Evidence]] = defaultdict(list)
    for row in restricted.rows(
        "select candidate_id, seq, entry_no, role, amount, currency from alert_candidate_entries"
    ):
        entries[row["candidate_id"]].append(
            Evidence(row["seq"], row["entry_no"], row["role"], int(row["amount"]), row["currency"])
        )
    return tuple(
        Candidate(
            **{name: row[name] for name in _CANDIDATE_FIELDS},
            rule_version=str(row["rule_version"]),
            window_start=_midnight(row["window_start"]),
            window_end=_midnight(row["window_end"]),
            amount=int(row["amount"]),
            entries=tuple(entries[row["candidate_id"]]),
        )
        for row in restricted.rows("select * from alert_candidates")
    )


def _midnight(day: dt.date) -> dt.datetime:
    """The first moment of a window's day, without a zone: rules count days of the ledger."""
    return dt.datetime(day.year, day.month, day.day)  # noqa: DTZ001 - a day is not a moment


def reversals(
    general: Published, evidence: Iterable[tuple[str, int]]
) -> Mapping[tuple[str, int], int]:
    """Which of the (ledger, seq) were reversed, and by which `seq`."""
    wanted = sorted(set(evidence))
    rows = general.rows(
        "select ledger, seq, reversed_by_seq from transactions "
        "where reversed_by_seq is not null and (ledger, seq) in "
        "(select unnest($1::varchar[]), unnest($2::bigint[]))",
        [[ledger for ledger, _ in wanted], [seq for _, seq in wanted]],
    )
    return {(row["ledger"], row["seq"]): row["reversed_by_seq"] for row in rows}


def take_in(connection: Connection, marts: Marts, moment: dt.datetime) -> Taken:
    """Turn the newest snapshot's candidates into events, in one transaction of the caller's.

    The general snapshot tells what was reversed. Any number of intakes may run at once: they queue.
    Errors: `NotPublished`.
    """
    restricted = marts.current("restricted")
    candidates = candidates_of(restricted)
    store.lock_intake(connection)
    alerts = store.load(connection)
    before = {alert.alert_id: alert.version for alert in alerts}
    evidence = {(alert.ledger, entry.seq) for alert in alerts for entry in alert.counted}
    try:
        reversed_by = reversals(marts.current("general"), evidence)
    except NotPublished:
        reversed_by = {}
    snapshot = Snapshot(
        restricted.manifest.version, restricted.manifest.as_of, candidates, reversed_by
    )
    plan = Plan(snapshot, alerts, moment)
    for name, event in plan.events:
        if isinstance(event, Opened) and not event.roles:
            _log.error("alert.evidence_does_not_sum", alert=name, rule=event.rule)
    store.append(connection, plan.events, plan.alerts, before=before, actor=MONITOR, moment=moment)
    opened = sum(isinstance(event, Opened) for _, event in plan.events)
    changed = len({name for name, _ in plan.events}) - opened
    taken = Taken(snapshot.version, len(candidates), opened, changed)
    _record(connection, taken, snapshot.as_of, moment)
    return taken


def _record(
    connection: Connection, taken: Taken, as_of: Mapping[str, int], moment: dt.datetime
) -> None:
    """Note up to where alerts are known; what adds nothing to the last note leaves none."""
    connection.execute(
        "insert into intake (snapshot_version, recorded_at, candidates, opened, changed, as_of) "
        "select %(version)s, %(moment)s, %(candidates)s, %(opened)s, %(changed)s, %(as_of)s "
        "where %(opened)s + %(changed)s > 0 "
        "or not exists (select from (select as_of from intake order by intake_id desc limit 1) last "
        "where last.as_of = %(as_of)s)",
        {
            "version": taken.snapshot_version,
            "moment": moment,
            "candidates": taken.candidates,
            "opened": taken.opened,
            "changed": taken.changed,
            "as_of": Jsonb(dict(as_of)),
        },
    )
