"""A second person's decision (P12), on whatever page shows what is to be approved."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request
from starlette.responses import RedirectResponse, Response

from monitoring.console.access import Person, own_form, require
from monitoring.console.ledger import Ledger, LedgerProblem
from monitoring.console.render import problem_page

router = APIRouter()


def can_decide(approval: dict[str, Any], person: Person) -> bool:
    """Whether the page offers a decision to this person.

    The maker may try: who is told no by the server, and sees why, trusts the rule.
    """
    is_maker = approval["requested_by"] == person.actor
    return approval["status"] == "pending" and (person.may("approvals.decide") or is_maker)


@router.post("/approvals/{approval}/decisions", dependencies=[own_form])
def decide(  # noqa: PLR0917 - the fields of a form
    request: Request,
    approval: str,
    person: Annotated[Person, require("approvals.read")],
    decision: Annotated[str, Form()] = "",
    digest: Annotated[str, Form()] = "",
    reason: Annotated[str, Form()] = "",
) -> Response:
    """Approve or refuse, as the API allows: it holds the rule, and records each refusal (P11)."""
    if not approval.replace("_", "").isalnum():
        raise HTTPException(404, "There is no such approval.")
    api = Ledger(request.app.state.api, person.token)
    known = api.get(f"/v1/approvals/{approval}")
    back = _page_of(known)
    try:
        body = {"decision": decision, "digest": digest, "reason": reason.strip()}
        api.post(f"/v1/approvals/{approval}/decisions", body)
    except LedgerProblem as problem:
        if problem.status == 401:
            raise
        if known["requested_by"] == person.actor and problem.code in (
            "forbidden",
            "maker_is_checker",
        ):
            return problem_page(
                request,
                409,
                "You can’t decide on your own request",
                f"You asked for this {known['kind']} yourself; nothing was approved. It happens only "
                "when a second person, signed in as themselves, has looked at the same facts.",
                code="maker_is_checker",
                back=back,
            )
        return problem_page(
            request,
            problem.status,
            "The decision was not taken",
            problem.detail,
            code=problem.code,
            back=back,
        )
    return RedirectResponse(back, status_code=303)


def _page_of(approval: dict[str, Any]) -> str:
    """The page that shows what is approved."""
    if approval["kind"] == "reversal":
        return f"/reversals/{approval['subject']}"
    if approval["kind"] == "reopening":
        return f"/periods?ledger={approval['facts']['ledger']}"
    return "/"
