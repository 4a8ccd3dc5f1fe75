"""What waits for a second person, all that is to be approved in words, and the decision (P12)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Form, HTTPException, Request
from starlette.responses import RedirectResponse, Response

from ledger_service.contract.events import Entry, JournalEvent
from monitoring.console import rule_words
from monitoring.console.access import Person, own_form, require
from monitoring.console.books import Books, chosen_books, rule_versions
from monitoring.console.formats import day, words
from monitoring.console.ledger import Ledger, LedgerProblem
from monitoring.console.render import page, problem_page

router = APIRouter()

OF_RULES = ("rule_declaration", "rule_withdrawal")
"""Kinds of what is approved of a posting rule."""
_Reader = Annotated[Person, require("approvals.read")]


def can_decide(approval: dict[str, Any], person: Person) -> bool:
    """Whether the page offers a decision to this person.

    The maker may try: who is told no by the server, and sees why, trusts the rule.
    """
    is_maker = approval["requested_by"] == person.actor
    return approval["status"] == "pending" and (person.may("approvals.decide") or is_maker)


def waiting(api: Ledger) -> list[dict[str, Any]]:
    """What a second person has to decide, or has approved and nobody has done yet; oldest first."""
    found = [
        approval
        for status in ("pending", "approved")
        for approval in api.get("/v1/approvals", status=status, limit=500)["approvals"]
    ]
    return sorted(found, key=lambda approval: approval["requested_at"])


def of_events(
    api: Ledger, person: Person, shown: Iterable[JournalEvent]
) -> dict[str, dict[str, Any]]:
    """The approvals that events consumed, by id, for who may read them."""
    if not person.may("approvals.read"):
        return {}
    named = {approval for event in shown if (approval := getattr(event, "approval", None))}
    return {approval: api.get(f"/v1/approvals/{approval}") for approval in named}


def summary(approval: dict[str, Any]) -> str:
    """What is to be approved, in one line."""
    facts = approval["facts"]
    match approval["kind"]:
        case "reversal":
            return f"Reversal of transaction {facts['transaction']:,}"
        case "correction":
            return f"Correction of transaction {facts['corrects']:,}"
        case "reopening":
            return f"Reopening from {day(facts['since'])} on"
        case "rule_declaration":
            return (
                f"{words(facts['rule_kind'])} rule “{facts['rule']}” from {day(facts['since'])} on"
            )
        case "rule_withdrawal":
            return f"Withdrawal of rule “{facts['rule']}” from {day(facts['since'])} on"
        case kind:
            return words(kind)


@router.get("/approvals")
def approvals(request: Request, person: _Reader) -> Response:
    """All that waits for a second person, of every ledger."""
    found = waiting(Ledger(request.app.state.api, person.token))
    return page(
        request, "approvals.html", waiting=[(approval, summary(approval)) for approval in found]
    )


@router.get("/approvals/{approval}")
def one_approval(request: Request, approval: str, person: _Reader) -> Response:
    """What is to be approved, or was, where no other page shows it."""
    api = Ledger(request.app.state.api, person.token)
    found = _find(api, approval)
    if (elsewhere := _page_of(found)) != f"/approvals/{approval}":
        return RedirectResponse(elsewhere, status_code=303)
    books, _ = chosen_books(api, found["facts"]["ledger"])
    shown = _of_rule(api, books, found) if found["kind"] in OF_RULES else {}
    return page(
        request,
        "approval.html",
        approval=found,
        title=summary(found),
        exponents=books.exponents,
        entries=_entries(found["facts"].get("entries", ""), books),
        can_decide=can_decide(found, person),
        **{"lede": "", "asked": {}, "before": {}, "is_backdated": False, **shown},
    )


def _of_rule(api: Ledger, books: Books, approval: dict[str, Any]) -> dict[str, Any]:
    """The terms that are asked for, beside those whose place they take."""
    facts = approval["facts"]
    versions = [one for one in rule_versions(api, books.ledger) if one.rule == facts["rule"]]
    if approval["consumed_seq"]:
        versions = [one for one in versions if one.seq < approval["consumed_seq"]]
    elif approval["status"] == "refused":
        versions = [one for one in versions if one.recorded_at <= approval["decided_at"]]
    before = rule_words.replaced(versions, facts["since"])
    today = dt.datetime.now(ZoneInfo(books.time_zone)).date().isoformat()
    shown: dict[str, Any] = {
        "before": _words(rule_words.declared(before), books) if before else {},
        "before_version": before.version if before else None,
        "is_backdated": approval["status"] in ("pending", "approved") and facts["since"] < today,
        "lede": "From that day on the rule charges and accrues nothing more.",
    }
    if approval["kind"] == "rule_declaration":
        shown["asked"] = asked = _words(rule_words.asked(facts), books)
        shown["differing"] = sum(shown["before"].get(term) != asked[term] for term in asked)
        shown["lede"] = (
            "A posting rule moves other people’s money each time it is applied. What is approved is "
            "exactly these terms."
        )
    return shown


def _words(terms: rule_words.Terms, books: Books) -> dict[str, list[str]]:
    return rule_words.in_words(terms, books.exponents[terms.currency])


def _entries(text: str, books: Books) -> list[Entry]:
    """The entries of a correction, from the words in which they are approved; none where the words
    are not such: corrections were not always tried before they were asked for.
    """
    lines = [line.split(" ") for line in text.split("; ") if line]
    sound = all(
        len(line) == 4
        and line[1] in ("debit", "credit")
        and line[2].isdecimal()
        and line[3] in books.exponents
        for line in lines
    )
    if not sound:
        return []
    return [
        Entry(account, "debit" if side == "debit" else "credit", amount, currency)
        for account, side, amount, currency in lines
    ]


def _find(api: Ledger, approval: str) -> dict[str, Any]:
    if not approval.replace("_", "").isalnum():
        raise HTTPException(404, "There is no such approval.")
    return api.get(f"/v1/approvals/{approval}")


@router.post("/approvals/{approval}/decisions", dependencies=[own_form])
def decide(  # noqa: PLR0917 - the fields of a form
    request: Request,
    approval: str,
    person: _Reader,
    decision: Annotated[str, Form()] = "",
    digest: Annotated[str, Form()] = "",
    reason: Annotated[str, Form()] = "",
) -> Response:
    """Approve or refuse, as the API allows: it holds the rule, and records each refusal (P11)."""
    api = Ledger(request.app.state.api, person.token)
    known = _find(api, approval)
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
                f"You asked for this {words(known['kind']).lower()} yourself; nothing was approved. "
                "It happens only when a second person, signed in as themselves, has looked at the "
                "same facts.",
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
    return f"/approvals/{approval['approval']}"
