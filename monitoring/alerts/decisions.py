"""A person decides on an alert: close, escalate or reopen, with a reason."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from monitoring import audit
from monitoring.alerts import store
from monitoring.alerts.alert import Alert, AlertEvent, Closed, Escalated, Reopened, apply
from monitoring.database import Connection

Decision = Literal["close", "escalate", "reopen"]

REASON_MAX_LENGTH = 2000

_EVENTS: dict[Decision, type[Closed | Escalated | Reopened]] = {
    "close": Closed,
    "escalate": Escalated,
    "reopen": Reopened,
}
ALLOWED: dict[str, tuple[Decision, ...]] = {
    "open": ("close", "escalate"),
    "escalated": ("close", "reopen"),
    "closed": ("reopen",),
    "merged": (),
}
"""What may be decided in each status."""


class DecisionRefused(Exception):
    """A decision that can't be taken. `code` is stable, the message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def decide(
    connection: Connection,
    name: str,
    decision: str,
    *,
    reason: str,
    actor: str,
    seen_version: int,
    moment: dt.datetime,
) -> Alert:
    """Append the decision, its audit row and its place in the outbox; all or nothing.

    `seen_version` is the alert's version on the page the person decided from. Errors:
    `DecisionRefused` with `alert_not_found`, `alert_changed`, `decision_not_allowed`,
    `reason_missing`, `reason_too_long`.
    """
    reason = reason.strip()
    if not reason:
        raise DecisionRefused("reason_missing", "Write the reason; it is kept with the decision.")
    if len(reason) > REASON_MAX_LENGTH:
        raise DecisionRefused(
            "reason_too_long", f"Shorten the reason to {REASON_MAX_LENGTH:,} characters."
        )
    alerts = store.load(connection, [name])
    if not alerts:
        raise DecisionRefused("alert_not_found", "There is no such alert.")
    alert = alerts[0]
    if alert.version != seen_version:
        raise DecisionRefused(
            "alert_changed",
            "This alert has changed since you opened it. Read what is new, then decide again.",
        )
    allowed = ALLOWED[alert.status]
    if decision not in allowed:
        possible = " or ".join(allowed) or "nothing; decide on the alert it went into"
        raise DecisionRefused(
            "decision_not_allowed",
            f"The alert is {alert.status}: what can be decided is {possible}.",
        )
    event: AlertEvent = _EVENTS[decision](reason=reason)
    after = apply(alert, event, name, actor, moment)
    store.append(
        connection,
        [(name, event)],
        {name: after},
        before={name: alert.version},
        actor=actor,
        moment=moment,
    )
    audit.record(
        connection,
        actor=actor,
        action="alerts.decide",
        subject=name,
        outcome=after.status,
        detail=f"version {after.version}",
        moment=moment,
    )
    return after
