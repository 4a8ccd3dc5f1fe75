"""Reconciliation breaks, both sides beside each other."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import Response

from monitoring.console.access import require
from monitoring.console.published import chosen_ledger, general, ledgers
from monitoring.console.render import page

router = APIRouter()

KINDS = {
    "missing_in_ledger": "The bank states a movement that the ledger does not have.",
    "missing_at_bank": "The ledger has a movement that no bank statement shows.",
    "amount_differs": "Bank and ledger have the same movement with different amounts.",
    "duplicate_at_bank": "The bank states the same movement twice.",
    "timing": "The bank is expected to show this in the next banking days; it settles by itself.",
    "stated_balance_differs": "The balance a source states is not what its transactions add up to.",
}
"""What each kind means, in words."""
LIST_MAX = 500


@router.get("/breaks", dependencies=[require("reconciliation.view")])
def breaks(request: Request, ledger: str | None = None, kind: str = "") -> Response:
    """Open breaks, oldest first."""
    marts = general(request)
    ledger = chosen_ledger(marts, ledger)
    counts = marts.rows(
        "select kind, count(*) as breaks from reconciliation_breaks "
        "where ledger = $1 group by kind order by kind",
        [ledger],
    )
    kind = kind if kind in KINDS else ""
    rows = marts.rows(
        """
        select *, date_diff('day', opened_date, last_date) as age_days from reconciliation_breaks
         where ledger = $1 and ($2 = '' or kind = $2)
         order by kind = 'timing', opened_date, break_id limit $3
        """,
        [ledger, kind, LIST_MAX],
    )
    return page(
        request,
        "breaks.html",
        ledger=ledger,
        ledgers=ledgers(marts),
        kind=kind,
        counts=counts,
        breaks=rows,
        total=sum(row["breaks"] for row in counts),
        limit=LIST_MAX,
    )


@router.get("/breaks/{break_id}", dependencies=[require("reconciliation.view")])
def one_break(request: Request, break_id: str) -> Response:
    """One break: the bank's line beside the ledger's entry."""
    marts = general(request)
    found = marts.row(
        "select *, date_diff('day', opened_date, last_date) as age_days "
        "from reconciliation_breaks where break_id = $1",
        [break_id],
    )
    if found is None:
        raise HTTPException(
            404, "This break is no longer published: it may have been resolved meanwhile."
        )
    line = entry = None
    if found["statement"] is not None and found["line_no"] is not None:
        line = marts.row(
            "select * from statement_lines where statement = $1 and line_no = $2",
            [found["statement"], found["line_no"]],
        )
    if found["seq"] is not None:
        entry = marts.row(
            "select * from entries where ledger = $1 and seq = $2 "
            "and entry_no = coalesce($3, entry_no) order by entry_no limit 1",
            [found["ledger"], found["seq"], found["entry_no"]],
        )
    return page(
        request,
        "break.html",
        found=found,
        meaning=KINDS.get(found["kind"], ""),
        line=line,
        entry=entry,
    )
