"""Holds: money set aside, what is left of it, and what captured or released it."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, HTTPException, Query, Request
from starlette.responses import Response

from ledger_service.contract.events import HoldPlaced, HoldReleased, TransactionPosted
from ledger_service.contract.identifiers import LEDGER
from monitoring.console.access import Person, require
from monitoring.console.books import chosen_books
from monitoring.console.formats import debits
from monitoring.console.ledger import Ledger, LedgerProblem
from monitoring.console.render import page

router = APIRouter()

STATES = ("open", "captured", "voided", "expired", "all")
PAGE_ROWS = 50
CAPTURES_SHOWN = 50


class Held(msgspec.Struct, frozen=True):
    """How a hold stands: what the API says beside the event that placed it."""

    state: str
    left: str
    captured_by: list[int]
    changed_by: int
    release: HoldReleased | None = None


def _hold(item: dict[str, Any]) -> tuple[HoldPlaced, Held]:
    return msgspec.convert(item, HoldPlaced), msgspec.convert(item, Held)


@router.get("/holds")
def holds(  # noqa: PLR0917 - the filters of a page
    request: Request,
    person: Annotated[Person, require("holds.view")],
    ledger: str | None = None,
    state: str = "open",
    account: str = "",
    before: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
) -> Response:
    """A ledger's holds in one state or in any, of one account or of all, newest first."""
    api = Ledger(request.app.state.api, person.token)
    books, names = chosen_books(api, ledger)
    state = state if state in STATES else "open"
    account = account.strip()
    try:
        found = api.get(
            f"/v1/ledgers/{books.ledger}/holds",
            state=None if state == "all" else state,
            account=account or None,
            before=before,
            limit=PAGE_ROWS,
        )
    except LedgerProblem as problem:
        if problem.code != "unknown_account":
            raise
        found = None
    return page(
        request,
        "holds.html",
        books=books,
        ledger=books.ledger,
        ledgers=names,
        state=state,
        states=STATES,
        account=account,
        holds=[_hold(item) for item in found["holds"]] if found else [],
        is_known=found is not None,
        before=before,
        older=found["next_before"] if found else None,
        now=dt.datetime.now(dt.UTC),
    )


@router.get("/holds/{ledger}/{seq}")
def one_hold(
    request: Request, ledger: str, seq: int, person: Annotated[Person, require("holds.view")]
) -> Response:
    """One hold: its entries, and everything that was done with it."""
    if not LEDGER.match(ledger) or not 0 < seq < 2**63:
        raise HTTPException(404, "There is no such hold.")
    api = Ledger(request.app.state.api, person.token)
    books, _ = chosen_books(api, ledger)
    event, held = _hold(api.get(f"/v1/ledgers/{ledger}/holds/{seq}"))
    captures = [
        msgspec.convert(api.get(f"/v1/ledgers/{ledger}/transactions/{number}"), TransactionPosted)
        for number in held.captured_by[-CAPTURES_SHOWN:]
    ]
    earlier = len(held.captured_by) - len(captures)
    captured = sum(debits(capture.entries) for capture in captures)
    return page(
        request,
        "hold.html",
        ledger=ledger,
        time_zone=books.time_zone,
        exponents=books.exponents,
        event=event,
        held=held,
        captures=captures,
        earlier=earlier,
        # What a capture in part left, where it ended the hold.
        rest=debits(event.entries) - captured if held.state == "captured" and not earlier else 0,
        now=dt.datetime.now(dt.UTC),
    )
