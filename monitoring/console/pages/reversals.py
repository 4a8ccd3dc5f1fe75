"""Reversals: asked for by one person, decided by another (P12), executed by the ledger."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request
from starlette.responses import RedirectResponse, Response

from ledger_service.contract.identifiers import LEDGER
from ledger_service.contract.money import MoneyError, to_minor
from monitoring.console.access import Person, own_form, require
from monitoring.console.ledger import Ledger, LedgerProblem
from monitoring.console.pages.approvals import can_decide
from monitoring.console.render import page, problem_page

router = APIRouter()


def _api(request: Request, person: Person) -> Ledger:
    return Ledger(request.app.state.api, person.token)


@router.get("/reversals")
def reversals(
    request: Request,
    person: Annotated[Person, require("reversals.read")],
    ledger: str = "",
    transaction: str = "",
) -> Response:
    """What waits for a decision first, then the rest, newest first; the form of a new request."""
    api = _api(request, person)
    found = api.get("/v1/reversals", limit=200)["reversals"]
    waiting = ("requested", "awaiting_approval")
    return page(
        request,
        "reversals.html",
        pending=[item for item in found if item["status"] in waiting],
        settled=[item for item in found if item["status"] not in waiting],
        ledgers=sorted(item["ledger"] for item in api.get("/v1/ledgers")["ledgers"]),
        ledger=ledger,
        transaction=transaction,
        reasons=sorted({item["reason"] for item in found}),
        request_key=secrets.token_hex(16),
    )


@router.post("/reversals", dependencies=[own_form])
def ask(  # noqa: PLR0917 - the fields of a form
    request: Request,
    person: Annotated[Person, require("reversals.request")],
    ledger: Annotated[str, Form()] = "",
    transaction: Annotated[str, Form()] = "",
    amount: Annotated[str, Form()] = "",
    reason: Annotated[str, Form()] = "",
    request_key: Annotated[str, Form()] = "",
) -> Response:
    """Ask for a reversal. The form's key makes a form that is sent twice one request."""
    back = "/reversals"
    if not LEDGER.match(ledger) or not transaction.strip().isdigit():
        text = "Choose a ledger and give the transaction’s seq, a whole number."
        return problem_page(
            request, 422, "The request was not made", text, code="invalid_request", back=back
        )
    api = _api(request, person)
    body: dict[str, Any] = {"transaction": int(transaction), "reason": reason.strip()}
    if request_key:
        body["idempotency_key"] = request_key
    try:
        if amount.strip():
            original = api.get(f"/v1/ledgers/{ledger}/transactions/{int(transaction)}")
            currency = original["entries"][0]["currency"]
            places = api.exponents(ledger)[currency]
            minor, _ = to_minor(amount.strip().replace(",", ""), currency, places=places)
            body["amount"] = str(minor)
        made = api.post(f"/v1/ledgers/{ledger}/reversals", body)
    except MoneyError as error:
        return problem_page(
            request, 422, "The request was not made", str(error), code=error.code, back=back
        )
    except LedgerProblem as problem:
        if problem.status in (401, 403):
            raise
        return problem_page(
            request,
            problem.status,
            "The request was not made",
            problem.detail,
            code=problem.code,
            back=back,
        )
    return RedirectResponse(f"/reversals/{made['reversal']}", status_code=303)


@router.get("/reversals/{reversal}")
def one(
    request: Request, reversal: str, person: Annotated[Person, require("reversals.read")]
) -> Response:
    """One reversal: the original's entries, the facts to approve with their digest, the history."""
    if not reversal.replace("_", "").isalnum():
        raise HTTPException(404, "There is no such reversal.")
    api = _api(request, person)
    found = api.get(f"/v1/reversals/{reversal}")
    original = api.get(f"/v1/ledgers/{found['ledger']}/transactions/{found['transaction']}")
    approval = (
        api.get(f"/v1/approvals/{found['approval']}") if person.may("approvals.read") else None
    )
    currency = original["entries"][0]["currency"]
    exponents = api.exponents(found["ledger"])
    is_maker = approval is not None and approval["requested_by"] == person.actor
    return page(
        request,
        "reversal.html",
        reversal=found,
        original=original,
        approval=approval,
        currency=currency,
        exponent=exponents[currency],
        exponents=exponents,
        is_maker=is_maker,
        can_decide=approval is not None and can_decide(approval, person),
    )
