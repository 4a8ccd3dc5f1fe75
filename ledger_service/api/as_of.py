"""An account on both clocks: its balance, its balances by day, its statement."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request

from ledger_service.api.clocks import AsOf
from ledger_service.api.problems import Problem
from ledger_service.api.who import Principal, require
from ledger_service.engine import as_of, entry_list, reads

router = APIRouter(tags=["accounts"])
_ACCOUNT = "/v1/ledgers/{ledger}/accounts/{account}"
Limit = Annotated[int, Query(ge=1, le=reads.PAGE_MAX)]


async def _known(request: Request, ledger: str, account: str, at: as_of.Clocks) -> Any:
    found = await as_of.number_of(request.app.state.pool, ledger, account, at)
    if found is None:
        raise Problem("not_found", "There was no such account in this ledger then.")
    return found


def _sums(known: Any, debits: int, credits_: int) -> dict[str, str]:
    posted = debits - credits_ if known["normal_side"] == "debit" else credits_ - debits
    return {"debits": str(debits), "credits": str(credits_), "posted": str(posted)}


@router.get(_ACCOUNT + "/balance")
async def balance(
    ledger: str,
    account: str,
    _who: Annotated[Principal, require("ledgers.read")],
    request: Request,
    clocks: AsOf,
) -> dict[str, Any]:
    """An account's balance: what counted by a moment, as it was known at another."""
    at = await clocks.resolve(request, ledger)
    known = await _known(request, ledger, account, at)
    debits, credits_ = await as_of.balance(request.app.state.pool, ledger, known["number"], at)
    return {
        "account": account,
        "currency": known["currency"],
        **_sums(known, debits, credits_),
        **clocks.stated(at.seq),
    }


@router.get(_ACCOUNT + "/daily-balances")
async def daily_balances(
    *,
    ledger: str,
    account: str,
    _who: Annotated[Principal, require("ledgers.read")],
    request: Request,
    clocks: AsOf,
    first: Annotated[dt.date, Query(alias="from")] = dt.date.min,
    limit: Limit = 100,
) -> dict[str, Any]:
    """Movements and closing balance of each effective day that has entries, oldest first.

    `next` is the `from` of the next page, null at the end.
    """
    pool = request.app.state.pool
    at = await clocks.resolve(request, ledger)
    known = await _known(request, ledger, account, at)
    number = known["number"]
    found = await as_of.daily_movements(pool, ledger, number, at, first=first, limit=limit + 1)
    before = msgspec.structs.replace(at, before_day=min(first, at.before_day), until=None)
    debits, credits_ = await as_of.balance(pool, ledger, number, before)
    days: list[dict[str, Any]] = []
    for day, debit, credit in found[:limit]:
        debits, credits_ = debits + debit, credits_ + credit
        moved = {"moved_debits": str(debit), "moved_credits": str(credit)}
        days.append({"effective_date": day.isoformat(), **moved, **_sums(known, debits, credits_)})
    following = found[limit][0].isoformat() if len(found) > limit else None
    return {"account": account, "days": days, "next": following, **clocks.stated(at.seq)}


@router.get(_ACCOUNT + "/statement")
async def statement(
    *,
    ledger: str,
    account: str,
    _who: Annotated[Principal, require("ledgers.read")],
    request: Request,
    clocks: AsOf,
    first: Annotated[dt.date, Query(alias="from")] = dt.date.min,
    after: str = "",
    limit: Limit = 100,
) -> dict[str, Any]:
    """Entries in the order in which they count, between opening and closing balance.

    From the day `from` to the end of `effective_date`; `next` is the `after` of the next page. Pages
    of one statement name the same `at_seq`, so that nothing that is posted meanwhile moves them.
    """
    if clocks.effective_at is not None:
        raise Problem("invalid_request", "A statement ends with a day: give effective_date.")
    try:
        place = as_of.read_place(after) if after else as_of.START
    except (ValueError, OverflowError):
        raise Problem("invalid_request", "after is the next of the page before.") from None
    pool = request.app.state.pool
    at = await clocks.resolve(request, ledger)
    known = await _known(request, ledger, account, at)
    number = known["number"]
    before = msgspec.structs.replace(at, before_day=min(first, at.before_day))
    opening = _sums(known, *await as_of.balance(pool, ledger, number, before))
    closing = _sums(known, *await as_of.balance(pool, ledger, number, at))
    rows = await as_of.statement(
        pool, ledger, number, at, first=first, after=place, limit=limit + 1
    )
    following = as_of.write_place(as_of.place_of(rows[limit - 1])) if len(rows) > limit else None
    return {
        "account": account,
        "currency": known["currency"],
        "opening": opening,
        "closing": closing,
        "entries": [entry_list.entry_of(row) for row in rows[:limit]],
        "next": following,
        **clocks.stated(at.seq),
    }
