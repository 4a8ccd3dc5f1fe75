"""Posting rules: how fees and interest are worked out, since when, and what each rule posted."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from itertools import groupby
from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec
from fastapi import APIRouter, HTTPException, Query, Request
from starlette.responses import Response

from ledger_service.contract.events import RuleDeclared, TransactionPosted
from ledger_service.contract.identifiers import LEDGER
from monitoring.console.access import Person, require
from monitoring.console.books import Books, chosen_books, rule_versions
from monitoring.console.formats import debits
from monitoring.console.ledger import Ledger
from monitoring.console.pages import approvals
from monitoring.console.render import page
from monitoring.console.rule_words import ROUNDINGS, Version

router = APIRouter()

PAGE_ROWS = 50


class Declared(msgspec.Struct, frozen=True):
    """What was declared of one rule. `status`: in_force, to_come or withdrawn, as of today."""

    terms: RuleDeclared
    """In force today; where none is, the last ones."""
    status: str
    since: str
    """The day from which that status holds."""
    versions: list[tuple[Version, str]]
    """Newest first, with the status of each; a version that another has taken the place of is
    `replaced`."""


@router.get("/rules")
def rules(
    request: Request,
    person: Annotated[Person, require("rules.view")],
    ledger: str | None = None,
) -> Response:
    """Every rule of a ledger with its terms in short."""
    api = Ledger(request.app.state.api, person.token)
    books, names = chosen_books(api, ledger)
    return page(
        request,
        "rules.html",
        books=books,
        ledger=books.ledger,
        ledgers=names,
        rules=_rules(api, books),
        waiting=[
            (approval, approvals.summary(approval))
            for approval in (approvals.waiting(api) if person.may("approvals.read") else [])
            if approval["kind"] in approvals.OF_RULES
            and approval["facts"]["ledger"] == books.ledger
        ],
    )


@router.get("/rules/{ledger}/{rule}")
def one_rule(
    request: Request,
    ledger: str,
    rule: str,
    person: Annotated[Person, require("rules.view")],
    before: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
) -> Response:
    """One rule: each version's terms, and what it posted, newest first."""
    if not LEDGER.match(ledger):
        raise HTTPException(404, "There is no such rule.")
    api = Ledger(request.app.state.api, person.token)
    books, _ = chosen_books(api, ledger)
    found = next((one for one in _rules(api, books) if one.terms.rule == rule), None)
    if found is None:
        raise HTTPException(404, f"Ledger {ledger} has declared no rule {rule[:40]!r}.")
    posted = api.get(
        f"/v1/ledgers/{ledger}/rules/{rule}/transactions", before=before, limit=PAGE_ROWS
    )
    postings = msgspec.convert(posted["transactions"], list[TransactionPosted])
    return page(
        request,
        "rule.html",
        ledger=ledger,
        rule=found,
        approvals=approvals.of_events(api, person, [one for one, _ in found.versions]),
        time_zone=books.time_zone,
        places=books.exponents[found.terms.currency],
        roundings=ROUNDINGS,
        postings=[(event, amount_posted(event, found.terms)) for event in postings],
        before=before,
        older=posted["next_before"],
    )


def amount_posted(event: TransactionPosted, terms: RuleDeclared) -> int:
    """What a rule posted, minor units; negative: interest that was taken back."""
    amount = debits(event.entries)
    if event.applied is None or event.applied.period_start is None:
        return amount
    sides = {part.account: "debit" for part in terms.debit}
    sides |= {part.account: "credit" for part in terms.credit}
    named = [entry for entry in event.entries if entry.account in sides]
    as_declared = all(entry.side == sides[entry.account] for entry in named)
    # capitalized from where it was accrued to: the other way round
    return amount if as_declared == (event.applied.first_day is not None) else -amount


def _rules(api: Ledger, books: Books) -> list[Declared]:
    """Every rule of a ledger, by code."""
    declared = rule_versions(api, books.ledger)
    today = dt.datetime.now(ZoneInfo(books.time_zone)).date().isoformat()
    by_rule = groupby(sorted(declared, key=lambda one: (one.rule, one.seq)), lambda one: one.rule)
    return [_as_of(list(versions), today) for _, versions in by_rule]


def _as_of(versions: Sequence[Version], today: str) -> Declared:
    """How a rule stands on a day. Its versions come in the order in which they were declared: a later
    one takes the place of all before from its own first day on.
    """
    statuses = [_status(one, versions[place + 1 :], today) for place, one in enumerate(versions)]
    both = list(zip(versions, statuses, strict=True))[::-1]
    last = next(one for one, _ in both if isinstance(one, RuleDeclared))
    for version, status in both:
        if status in ("in_force", "withdrawn"):
            terms = version if isinstance(version, RuleDeclared) else last
            return Declared(terms, status, version.since, both)
    return Declared(last, "to_come", last.since, both)


def _status(version: Version, later: Sequence[Version], today: str) -> str:
    if any(one.since <= max(version.since, today) for one in later):
        return "replaced"
    if version.since > today:
        return "to_come"
    return "in_force" if isinstance(version, RuleDeclared) else "withdrawn"
