"""Reading alerts, for pages."""

from __future__ import annotations

from typing import Any

from monitoring.database import Connection

LIST_MAX = 300

RULES = {
    "structuring": "Cash deposits, each below the reporting threshold, that together pass it.",
    "rapid_movement": "Money that leaves within hours of coming in.",
    "fan_in": "Many senders paying into one account.",
    "ctr_aggregation": "Cash of one person and business day above the reporting threshold.",
}
"""What each rule looks for, in a sentence."""


def counts(connection: Connection) -> list[dict[str, Any]]:
    """How many alerts stand in each status, by rule."""
    return connection.execute(
        "select rule, status, count(*) as alerts from alert "
        "group by rule, status order by rule, status"
    ).fetchall()


def browse(connection: Connection, *, status: str, rule: str, ledger: str) -> list[dict[str, Any]]:
    """Alerts, highest score first; empty text means any. `status` "live" is open and escalated."""
    return connection.execute(
        """
        select a.*, (select count(*) from alert_evidence e
                      where e.alert_id = a.alert_id and removed_by is null) as entries
          from alert a
         where (%(status)s = '' or status = %(status)s
                or (%(status)s = 'live' and status in ('open', 'escalated')))
           and (%(rule)s = '' or rule = %(rule)s)
           and (%(ledger)s = '' or ledger = %(ledger)s)
         order by score desc, opened_at desc, alert_id limit %(limit)s
        """,
        {"status": status, "rule": rule, "ledger": ledger, "limit": LIST_MAX},
    ).fetchall()


def one(connection: Connection, name: str) -> dict[str, Any] | None:
    """One alert as it is."""
    return connection.execute("select * from alert where alert_id = %s", [name]).fetchone()


def evidence(connection: Connection, name: str) -> list[dict[str, Any]]:
    """The entries of an alert in the ledger's order; `removed_by` is the version that took one back."""
    return connection.execute(
        "select * from alert_evidence where alert_id = %s order by seq, entry_no, role", [name]
    ).fetchall()
