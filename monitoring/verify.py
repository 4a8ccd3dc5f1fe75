"""What `tally monitor verify` checks: alerts equal their events, the audit log's chain holds."""

from __future__ import annotations

from typing import Any

import msgspec
import psycopg
from psycopg.rows import dict_row

from monitoring import audit
from monitoring.alerts import store
from monitoring.alerts.alert import Alert, apply


def differences(connection: psycopg.Connection[Any]) -> list[str]:
    """Each difference in words; empty where everything holds."""
    connection.row_factory = dict_row
    connection.execute("set search_path = monitoring")
    connection.execute("set timezone = 'UTC'")
    rebuilt: dict[str, Alert] = {}
    found = []
    for recorded in store.events_of(connection):
        name = recorded.alert_id
        alert = apply(rebuilt.get(name), recorded.event, name, recorded.actor, recorded.recorded_at)
        if alert.version != recorded.alert_seq:
            found.append(
                f"alert {name}: event {recorded.alert_seq} stands where {alert.version} belongs"
            )
        rebuilt[name] = alert
    stored = {alert.alert_id: alert for alert in store.load(connection)}
    found += [
        f"alert {name}: its events give {_short(rebuilt.get(name), stored.get(name))}"
        for name in sorted(rebuilt.keys() | stored.keys())
        if rebuilt.get(name) != stored.get(name)
    ]
    if (seq := audit.broken_at(connection)) is not None:
        found.append(f"audit log: row {seq} does not follow from the rows before it")
    return found


def _short(left: Alert | None, right: Alert | None) -> str:
    if left is None or right is None:
        return "no alert, but one is stored" if left is None else "an alert, but none is stored"
    differing = [
        name for name in msgspec.structs.asdict(left) if getattr(left, name) != getattr(right, name)
    ]
    return "other values than are stored in " + ", ".join(differing)
