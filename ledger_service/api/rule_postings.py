"""What a posting rule posted, newest first, in pages that lose and repeat none.

The index of transactions knows their kind, and a rule's are of its own kind; which rule it was stands
in the events. So a page looks at a bounded number of that kind, and may be short before the last one.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ledger_service.contract.rules import Applied
from ledger_service.engine import transaction_index
from ledger_service.engine.reads import PAGE_MAX
from ledger_service.engine.transaction_index import Filters

EXAMINED_MAX = 20_000
"""Transactions of the rule's kind that a page may look at."""


class _Posted(msgspec.Struct, frozen=True):
    seq: int
    applied: Applied | None = None


_DECODER = msgspec.json.Decoder(_Posted)


async def find(
    connection: Any,
    ledger: str,
    rule: str,
    kind: Literal["fee", "interest"],
    *,
    before: int,
    limit: int,
    head: int,
) -> tuple[list[dict[str, Any]], int | None]:
    """Transactions with `seq` below `before`, and the `before` of the next page; None: no more.

    Sees all up to `head`. Errors: `ProjectionBehind`.
    """
    found: list[dict[str, Any]] = []
    filters = Filters(kind=kind)
    for _ in range(EXAMINED_MAX // PAGE_MAX):
        page = await transaction_index.find(
            connection, ledger, filters, before=(None, before), limit=PAGE_MAX, head=head
        )
        for row in page.rows:
            posted = _DECODER.decode(row["bytes"])
            if posted.applied is None or posted.applied.rule != rule:
                continue
            found.append(msgspec.json.decode(row["bytes"]))
            if len(found) == limit:
                return found, posted.seq
        if page.following is None:
            return found, None
        before = page.following[1]
    return found, before
