"""Alerts: the queue, one alert with its evidence, and the decision. Compliance's eyes only."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request
from starlette.responses import RedirectResponse, Response

from monitoring import audit
from monitoring.alerts import decisions, queries, store
from monitoring.alerts.alert import MONITOR, event_name
from monitoring.console.access import Person, own_form, require
from monitoring.console.render import page, problem_page
from monitoring.marts import NotPublished

router = APIRouter()

STATUSES = ("live", "open", "escalated", "closed", "merged")

_REFUSAL_STATUS = {"alert_not_found": 404, "alert_changed": 409, "decision_not_allowed": 409}


@router.get("/alerts", dependencies=[require("alerts.view")])
def alerts(request: Request, status: str = "live", rule: str = "", ledger: str = "") -> Response:
    """The queue, highest score first."""
    status = status if status in (*STATUSES, "all") else "live"
    with request.app.state.pool.connection() as connection:
        found = queries.browse(
            connection, status="" if status == "all" else status, rule=rule, ledger=ledger
        )
        counts = queries.counts(connection)
    return page(
        request,
        "alerts.html",
        alerts=found,
        counts=counts,
        status=status,
        statuses=STATUSES,
        rule=rule,
        rules=sorted({row["rule"] for row in counts}),
        ledger=ledger,
        limit=queries.LIST_MAX,
    )


@router.get("/alerts/{name}")
def alert(
    request: Request, name: str, person: Annotated[Person, require("alerts.view")]
) -> Response:
    """One alert: why, on which entries, what happened to it. Each reading is on the audit log."""
    with request.app.state.pool.connection() as connection:
        found = queries.one(connection, name)
        if found is None:
            raise HTTPException(404, "There is no such alert.")
        evidence = queries.evidence(connection, name)
        history = store.events_of(connection, name)
        audit.record(
            connection,
            actor=person.actor,
            action="alerts.view",
            subject=name,
            outcome="shown",
            moment=dt.datetime.now(dt.UTC),
        )
    facts = _facts(request, found["ledger"], [row["seq"] for row in evidence])
    return page(
        request,
        "alert.html",
        alert=found,
        meaning=queries.RULES.get(found["rule"], ""),
        evidence=[row | facts.get((row["seq"], row["entry_no"]), {}) for row in evidence],
        counted=sum(
            int(row["amount"])
            for row in evidence
            if row["removed_by"] is None and row["role"] in found["roles"]
        ),
        history=[(recorded, event_name(recorded.event)) for recorded in reversed(history)],
        allowed=decisions.ALLOWED[found["status"]] if person.may("alerts.decide") else (),
        by_monitor=MONITOR,
    )


def _facts(request: Request, ledger: str, seqs: list[int]) -> dict[tuple[int, int], dict[str, Any]]:
    """What the general marts say of the evidence; nothing where they are not published."""
    try:
        rows = request.app.state.marts.current("general").rows(
            "select e.seq, e.entry_no, e.account, e.kind, e.channel, e.side, e.effective_at, "
            "t.counterparty, t.conductor, t.reversed_by_seq "
            "from entries e join transactions t on t.ledger = e.ledger and t.seq = e.seq "
            "where e.ledger = $1 and e.seq in (select unnest($2::bigint[]))",
            [ledger, seqs],
        )
    except NotPublished:
        return {}
    return {(row.pop("seq"), row.pop("entry_no")): row for row in rows}


@router.post("/alerts/{name}/decisions", dependencies=[own_form])
def decide(  # noqa: PLR0917 - the fields of a form
    request: Request,
    name: str,
    person: Annotated[Person, require("alerts.decide")],
    decision: Annotated[str, Form()] = "",
    reason: Annotated[str, Form()] = "",
    version: Annotated[int, Form()] = 0,
) -> Response:
    """Close, escalate or reopen."""
    try:
        with request.app.state.pool.connection() as connection:
            decisions.decide(
                connection,
                name,
                decision,
                reason=reason,
                actor=person.actor,
                seen_version=version,
                moment=dt.datetime.now(dt.UTC),
            )
    except decisions.DecisionRefused as refusal:
        return problem_page(
            request,
            _REFUSAL_STATUS.get(refusal.code, 422),
            "The decision was not taken",
            str(refusal),
            code=refusal.code,
            back=f"/alerts/{name}",
        )
    return RedirectResponse(f"/alerts/{name}", status_code=303)
