"""The FBO day: what the bank holds for our customers is what we owe them, or it is named why not."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from monitoring.console.access import Person, require
from monitoring.console.charts import Day, chart, shares
from monitoring.console.published import chosen_ledger, general, ledgers
from monitoring.console.render import page

router = APIRouter()


@router.get("/fbo")
def fbo_day(
    request: Request,
    person: Annotated[Person, require("reconciliation.view")],
    ledger: str | None = None,
    date: Annotated[dt.date | None, Query()] = None,
    account: str = "",
) -> Response:
    """One day of one bank account: both sides of the equation and what stands between them."""
    marts = general(request)
    ledger = chosen_ledger(marts, ledger)
    accounts = [
        row["account"]
        for row in marts.rows(
            "select distinct account from reconciliation_days where ledger = $1 order by account",
            [ledger],
        )
    ]
    account = (
        account
        if account in accounts
        else ("bank:fbo" if "bank:fbo" in accounts else (accounts or [""])[0])
    )
    history = marts.rows(
        "select * from reconciliation_days where ledger = $1 and account = $2 "
        "order by statement_date",
        [ledger, account],
    )
    days = [row["statement_date"] for row in history]
    asked = date or (days[-1] if days else None)
    found = next((row for row in history if row["statement_date"] == asked), None)
    breaks = (
        marts.rows(
            "select * from reconciliation_breaks where ledger = $1 and account = $2 "
            "and opened_date <= $3 and last_date >= $3 order by abs(difference) desc, break_id",
            [ledger, account, asked],
        )
        if found
        else []
    )
    reports = request.app.state.settings.reports / "fbo" / ledger
    return page(
        request,
        "fbo.html",
        ledger=ledger,
        ledgers=ledgers(marts),
        account=account,
        accounts=accounts,
        asked=asked,
        day=found,
        previous=max((day for day in days if asked and day < asked), default=None),
        following=min((day for day in days if asked and day > asked), default=None),
        first=days[0] if days else None,
        last=days[-1] if days else None,
        bars=_bars(found) if found else None,
        breaks=breaks,
        chart=_history(history),
        history=history[-14:][::-1],
        reports=[
            kind
            for kind in ("pdf", "csv")
            if asked
            and person.may("reports.view")
            and (reports / f"{asked.isoformat()}.{kind}").is_file()
        ],
    )


def _bars(day: dict) -> dict:
    bank, ledger_cash, owed = shares(
        [int(day["bank_closing"])],
        [int(day["ledger_closing"])],
        [int(day["customers"]), int(day["in_transit"])],
    )
    return {"bank": bank, "ledger": ledger_cash, "owed": owed}


def _history(history: list[dict]) -> object:
    """The difference between bank and ledger of each day, coloured by whether breaks explain it."""
    days = [
        Day(row["statement_date"], int(row["difference_bank_ledger"]), row["status"])
        for row in history
    ]
    if not days:
        return None
    return chart(days, exponent=history[0]["exponent"], currency=history[0]["currency"], zero=True)
