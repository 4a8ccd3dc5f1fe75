"""Periods: which days still take entries, every closing with what it states, and reopenings (P9)."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec
from fastapi import APIRouter, Form, HTTPException, Query, Request
from starlette.responses import RedirectResponse, Response

from ledger_service.contract.events import (
    DayAttested,
    PeriodClosed,
    PeriodReopened,
    PeriodSoftClosed,
    TrialLine,
)
from ledger_service.contract.identifiers import LEDGER
from monitoring.console import proving
from monitoring.console.access import Person, own_form, require
from monitoring.console.books import chosen_books, heading_names
from monitoring.console.ledger import Ledger, LedgerProblem
from monitoring.console.pages.approvals import can_decide, of_events, waiting
from monitoring.console.render import page, problem_page

router = APIRouter()

PAGE_ROWS = 50
ATTESTED_SHOWN = 31
CHECKS = {
    "sequence_gapless": "No event is missing since the last closing",
    "tree_root_equals_head": "The stored tree gives the root that the ledger’s head states",
    "debits_equal_credits": "Debits equal credits, of each day and currency",
    "day_sums_equal_balances": "The sums of all days are the accounts’ balances",
    "custodial_money_covered": "Customers’ money was covered in each currency",
}
"""What a closing may name as checked, in words."""

_Event = PeriodSoftClosed | PeriodClosed | PeriodReopened | DayAttested


class Periods(msgspec.Struct, frozen=True):
    """How far a ledger's books are closed, as the API says it."""

    soft_closed_through: str | None
    closed_through: str | None
    attested_days: list[str]
    first_open_day: str | None
    events: list[_Event]


@router.get("/periods")
def periods(
    request: Request,
    person: Annotated[Person, require("periods.view")],
    ledger: str | None = None,
    before: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
) -> Response:
    """How far the books are closed, what waits for a second person, and what was done."""
    api = Ledger(request.app.state.api, person.token)
    books, names = chosen_books(api, ledger)
    found = msgspec.convert(api.get(f"/v1/ledgers/{books.ledger}/periods"), Periods)
    done = [event for event in reversed(found.events) if before is None or event.seq < before]
    shown = done[:PAGE_ROWS]
    reopenings = [
        approval
        for approval in (waiting(api) if person.may("approvals.read") else [])
        if approval["kind"] == "reopening" and approval["facts"]["ledger"] == books.ledger
    ]
    return page(
        request,
        "periods.html",
        ledger=books.ledger,
        ledgers=names,
        time_zone=books.time_zone,
        today=dt.datetime.now(ZoneInfo(books.time_zone)).date().isoformat(),
        periods=found,
        attested=found.attested_days[: -ATTESTED_SHOWN - 1 : -1],
        events=shown,
        approvals=of_events(api, person, shown),
        older=shown[-1].seq if len(done) > PAGE_ROWS else None,
        waiting=[(approval, can_decide(approval, person)) for approval in reopenings],
        may_close=person.may("periods.close"),
    )


@router.get("/periods/{ledger}/{seq}")
def closing(
    request: Request, ledger: str, seq: int, person: Annotated[Person, require("periods.view")]
) -> Response:
    """What a closing states, and whether the console finds it in the signed history."""
    found = proving.find(request, person, ledger, seq)
    event = found.event
    if not isinstance(event, PeriodClosed):
        raise HTTPException(404, f"Event {seq} of ledger {ledger} closed no period.")
    api = Ledger(request.app.state.api, person.token)
    books, _ = chosen_books(api, ledger)
    checks = found.checks()
    if checks and found.checkpoint:
        checks.append(proving.root_check(request, person, event, found.checkpoint))
    return page(
        request,
        "closing.html",
        ledger=ledger,
        event=event,
        time_zone=books.time_zone,
        exponents=books.exponents,
        names=heading_names(api, ledger),
        balances=_by_currency(event.trial_balance),
        stated=[(text, name, name in event.checks) for name, text in CHECKS.items()]
        + [(name, name, True) for name in event.checks if name not in CHECKS],
        checks=checks,
        failure=found.failure,
    )


def _by_currency(lines: list[TrialLine]) -> list[dict[str, Any]]:
    """A trial balance by currency: customers' money, our own, and the sums of both sides. What never
    moved comes last.
    """
    found = []
    for currency in {line.currency for line in lines}:
        of_currency = [line for line in lines if line.currency == currency]
        groups = [
            (title, [line for line in of_currency if line.custodial is custodial])
            for title, custodial in (("Customers’ money", True), ("Our own", False))
        ]
        sides = {"debits": 0, "credits": 0}
        for line in of_currency:
            sides["debits"] += int(line.debits)
            sides["credits"] += int(line.credits)
        found.append({"currency": currency, "groups": groups, **sides})
    return sorted(found, key=lambda one: (not one["debits"], len(one["currency"]), one["currency"]))


@router.post("/periods/closings", dependencies=[own_form])
def close(
    request: Request,
    person: Annotated[Person, require("periods.close")],
    ledger: Annotated[str, Form()] = "",
    through: Annotated[str, Form()] = "",
    how: Annotated[Literal["soft-close", "close"], Form()] = "soft-close",
) -> Response:
    """Close softly, or for good: then the page of the closing follows."""
    answer = _done(request, person, ledger, how, {"through": through})
    if isinstance(answer, Response):
        return answer
    target = f"/periods/{ledger}/{answer['seq']}" if how == "close" else f"/periods?ledger={ledger}"
    return RedirectResponse(target, status_code=303)


@router.post("/periods/reopenings", dependencies=[own_form])
def reopen(  # noqa: PLR0917 - the fields of a form
    request: Request,
    person: Annotated[Person, require("periods.close")],
    ledger: Annotated[str, Form()] = "",
    since: Annotated[str, Form()] = "",
    reason: Annotated[str, Form()] = "",
    approval: Annotated[str, Form()] = "",
) -> Response:
    """Ask a second person for a reopening; with their approval, do it (P12)."""
    body = {"since": since, "reason": reason.strip()}
    if approval:
        body["approval"] = approval
    answer = _done(request, person, ledger, "reopen", body)
    if isinstance(answer, Response):
        return answer
    return RedirectResponse(f"/periods?ledger={ledger}", status_code=303)


def _done(
    request: Request, person: Person, ledger: str, what: str, body: dict[str, str]
) -> dict[str, Any] | Response:
    """The API's answer, or the page that says why it was refused."""
    if not LEDGER.match(ledger):
        raise HTTPException(404, "There is no such ledger.")
    try:
        return Ledger(request.app.state.api, person.token).post(
            f"/v1/ledgers/{ledger}/periods:{what}", body
        )
    except LedgerProblem as problem:
        if problem.status in (401, 403):
            raise
        return problem_page(
            request,
            problem.status,
            "The books stay as they are",
            problem.detail,
            code=problem.code,
            back=f"/periods?ledger={ledger}",
        )
