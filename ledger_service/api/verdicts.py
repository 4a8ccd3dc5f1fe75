"""The writer's verdicts as the API states them: a problem, or an item of a list of results."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import JSONResponse

from ledger_service.api.problems import Problem, refused
from ledger_service.domain.errors import Refusal
from ledger_service.engine.protocol import Committed, Possible, Refused, Unknown, Verdict


def settled(verdict: Verdict) -> Committed | Possible:
    """A verdict that is good news. Errors: `Problem` for a refusal, and for not knowing."""
    if isinstance(verdict, Refused):
        raise refused(Refusal(verdict.code, verdict.detail))
    if isinstance(verdict, Unknown):
        raise Problem("outcome_unknown", headers={"Retry-After": "1"})
    return verdict


def rehearsed(verdict: Possible) -> JSONResponse:
    """What a dry run would have recorded."""
    return JSONResponse({**msgspec.json.decode(verdict.event_bytes), "dry_run": True})


def item(verdict: Verdict | Problem) -> dict[str, Any]:
    """A verdict as one of many: `status` is committed, replayed, possible, refused or unknown."""
    match verdict:
        case Committed():
            return {
                "status": "replayed" if verdict.replayed else "committed",
                "seq": verdict.seq,
            }
        case Possible():
            return {"status": "possible"}
        case Refused():
            facts = dict(verdict.detail)
            message = facts.pop("message", "")
            return {"status": "refused", "code": verdict.code, "detail": message, **facts}
        case Unknown():
            return {"status": "unknown", "code": "outcome_unknown"}
        case Problem():
            return {
                "status": "refused",
                "code": verdict.code,
                "detail": verdict.detail,
                **verdict.facts,
            }
