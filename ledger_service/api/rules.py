"""What a ledger declares of its own: currencies, and posting rules; and what rules post."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ledger_service.api import posting_bodies, rule_postings
from ledger_service.api.approvals import by_two
from ledger_service.api.clocks import resolve_seq
from ledger_service.api.problems import Problem
from ledger_service.api.rule_bodies import (
    AccrueBody,
    CapitalizeBody,
    ChargeBody,
    CurrencyBody,
    RuleBody,
    WithdrawalBody,
)
from ledger_service.api.transactions import post_one
from ledger_service.api.who import Principal, require
from ledger_service.domain.rule_commands import DeclareCurrency, WithdrawRule
from ledger_service.engine import reads, rule_reads

router = APIRouter(tags=["rules"])

_Declarer = Annotated[Principal, require("ledgers.declare")]
_Poster = Annotated[Principal, require("transactions.post")]
_Reader = Annotated[Principal, require("ledgers.read")]


@router.post("/v1/ledgers/{ledger}/currencies", status_code=201)
async def declare_currency(ledger: str, who: _Declarer, request: Request) -> Response:
    """Keep a currency that is none of ISO 4217, with 0 to 9 places. The same again: 200."""
    body = await posting_bodies.read(request, CurrencyBody)
    command = DeclareCurrency(body.currency, body.exponent, who.actor, who.request_id, body.dry_run)
    return await post_one(request, ledger, command)


@router.get("/v1/ledgers/{ledger}/rules")
async def list_rules(ledger: str, _who: _Reader, request: Request) -> dict[str, Any]:
    """All versions of all posting rules, as they were declared."""
    await resolve_seq(request, ledger, None)
    return {"rules": await rule_reads.rules(request.app.state.pool, ledger)}


@router.post("/v1/ledgers/{ledger}/rules", status_code=201)
async def declare_rule(ledger: str, who: _Declarer, request: Request) -> Response:
    """Without an approval: ask a second person for it (202). With it: declare how a fee or interest
    is worked out. Other terms for a known code: its next version.
    """
    body = await posting_bodies.read(request, RuleBody)
    command = body.command(who.actor, who.request_id)
    return await by_two(request, ledger, command, who, subject=command.rule)


@router.post("/v1/ledgers/{ledger}/rules/{rule}:withdraw", status_code=201)
async def withdraw_rule(ledger: str, rule: str, who: _Declarer, request: Request) -> Response:
    """Without an approval: ask a second person for it (202). With it: let a rule be in force no more
    from the day `since` on.
    """
    body = await posting_bodies.read(request, WithdrawalBody)
    command = WithdrawRule(rule, body.since, who.actor, who.request_id, body.approval, body.dry_run)
    return await by_two(request, ledger, command, who, subject=rule)


@router.post("/v1/ledgers/{ledger}/rules/{rule}:charge", status_code=201)
async def charge(ledger: str, rule: str, who: _Poster, request: Request) -> Response:
    """Post a fee on an account, of an amount."""
    body = await posting_bodies.read(request, ChargeBody)
    return await post_one(request, ledger, body.command(ledger, rule, who.actor, who.request_id))


@router.post("/v1/ledgers/{ledger}/rules/{rule}:accrue", status_code=201)
async def accrue(ledger: str, rule: str, who: _Poster, request: Request) -> Response:
    """Post an account's interest of all days up to `through` that are not accrued yet, and what entries
    known since the last accrual change in that of the days before (`true_up`)."""
    body = await posting_bodies.read(request, AccrueBody)
    return await post_one(request, ledger, body.command(ledger, rule, who.actor, who.request_id))


@router.post("/v1/ledgers/{ledger}/rules/{rule}:capitalize", status_code=201)
async def capitalize(ledger: str, rule: str, who: _Poster, request: Request) -> Response:
    """Move what has accrued to the account that bore it."""
    body = await posting_bodies.read(request, CapitalizeBody)
    return await post_one(request, ledger, body.command(ledger, rule, who.actor, who.request_id))


@router.get("/v1/ledgers/{ledger}/rules/{rule}/transactions")
async def list_postings(
    *,
    ledger: str,
    rule: str,
    _who: _Reader,
    request: Request,
    before: Annotated[int, Query(ge=1, le=reads.LAST_SEQ)] = reads.LAST_SEQ,
    limit: Annotated[int, Query(ge=1, le=reads.PAGE_MAX)] = 100,
) -> dict[str, Any]:
    """What a rule posted, newest first; `next_before` is the `before` of the next page.

    A page looks at some twenty thousand transactions of the rule's kind at most, and may be short, or
    empty, before the last one, whose `next_before` is null.
    """
    pool = request.app.state.pool
    head = await resolve_seq(request, ledger, None)
    declared = [one for one in await rule_reads.rules(pool, ledger) if one["rule"] == rule]
    if not declared:
        raise Problem("unknown_rule")
    found, following = await rule_postings.find(
        pool, ledger, rule, declared[0]["kind"], before=before, limit=limit, head=head
    )
    return {"transactions": found, "next_before": following}


@router.get("/v1/ledgers/{ledger}/accounts/{account}/accruals")
async def list_accruals(
    ledger: str, account: str, _who: _Reader, request: Request
) -> dict[str, Any]:
    """What has accrued on an account and is not capitalized yet, by rule; `true_up`: that of the event
    `seq`, null where it capitalized."""
    found = await rule_reads.accruals(request.app.state.pool, ledger, account)
    if found is None:
        raise Problem("unknown_account")
    return {"accruals": found}
