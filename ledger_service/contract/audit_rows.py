"""What a row of the audit log says, as the text that is hashed and chained (P11)."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Literal

from ledger_service.contract.events import timestamp

Outcome = Literal["done", "refused", "failed"]


def row(
    *,
    actor: str,
    action: str,
    subject: str,
    outcome: Outcome = "done",
    details: Mapping[str, str | int | bool | None],
) -> str:
    """A row of this moment, for `security.append_audit`.

    `actor` is an id, `action` a dotted name (`party.revealed`), `subject` an id or a route,
    `details` codes and ids, never personal data.
    """
    content = {
        "recorded_at": timestamp(dt.datetime.now(dt.UTC)),
        "actor": actor,
        "action": action,
        "subject": subject,
        "outcome": outcome,
        "details": dict(details),
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":"))
