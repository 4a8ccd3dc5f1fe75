"""What the API reads of a ledger's periods."""

from __future__ import annotations

from typing import Any

import msgspec

from ledger_service.contract.events import decode_journal
from ledger_service.domain.period import PeriodEvent, Periods


async def periods(connection: Any, ledger: str) -> dict[str, Any] | None:
    """How far the books are closed, by the events themselves; None where there is no such ledger."""
    rows = await connection.fetch(
        "select j.bytes from ledger.head h left join ledger.period p using (ledger) "
        "left join ledger.journal j on j.ledger = p.ledger and j.seq = p.seq "
        "where h.ledger = $1 order by p.seq",
        ledger,
    )
    if not rows:
        return None
    raws = [row["bytes"] for row in rows if row["bytes"] is not None]
    state = Periods()
    for raw in raws:
        event = decode_journal(raw)
        if isinstance(event, PeriodEvent):
            state.apply(event)
    return {
        "ledger": ledger,
        "soft_closed_through": state.soft_closed or None,
        "closed_through": state.closed or None,
        "attested_days": sorted(state.attested),
        "first_open_day": state.first_open_day() or None,
        "events": [msgspec.json.decode(raw) for raw in raws],
    }
