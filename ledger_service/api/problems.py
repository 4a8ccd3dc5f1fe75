"""Every refusal of the API, as a problem of RFC 9457: one table from code to status.

A route raises `Problem(code, ...)`, or lets another room's refusal pass; the table says the status.
A code that is not in the table is a defect and becomes a 500. What went wrong inside never leaves:
a 500 says only the request id, by which the logs are found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import asyncpg
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ledger_service.contract.identifiers import IdentifierError, looks_personal
from ledger_service.contract.money import MoneyError
from ledger_service.domain.errors import REFUSALS, Refusal
from ledger_service.engine.durability import DATABASE_GONE
from ledger_service.engine.projector import ProjectionBehind
from ledger_service.parties.errors import PartyRefusal
from ledger_service.security.errors import SecurityRefusal

_CODES_BY_STATUS: dict[int, str] = {
    400: "bad_json bad_http",
    401: "unauthenticated bad_credentials demo_identity_refused",
    403: "forbidden session_required",
    404: "not_found ledger_not_open no_tile unknown_transaction unknown_hold unknown_rule unknown_approval "
    "unknown_party "
    "unknown_file unknown_reversal unknown_statement_account no_checkpoint",
    405: "method_not_allowed",
    409: "ledger_not_stopped ledger_exists account_exists approval_decided approval_expired maker_is_checker "
    "digest_mismatch duplicate_party party_erased retention_applies in_flight name_taken "
    "reversal_pending statement_account_conflict hold_ended hold_expired currency_declared "
    "already_accrued closing_check_failed",
    413: "body_too_large batch_too_large",
    415: "unsupported_media_type",
    422: "invalid_request bad_text idempotency_conflict personal_data_refused unknown_account "
    "unknown_currency unknown_calendar unknown_chart unknown_kind unknown_role "
    "unknown_user unknown_identity weak_password too_few_entries too_many_entries "
    "unbalanced undeclared_metadata metadata_too_long effective_in_future "
    "account_not_in_chart currency_differs account_closed account_frozen "
    "account_not_empty is_a_reversal partial_needs_one_currency reversal_exceeds "
    "floor_passed ceiling_passed event_too_large linked_batch_refused approval_invalid "
    "bad_ledger_id bad_currencies bad_time_zone bad_cut_off bad_side bad_amount "
    "bad_limits bad_status bad_account_id bad_owner bad_context bad_reason "
    "not_by_itself bad_rate rate_missing rate_not_needed too_many_currencies not_through_positions "
    "rate_differs bad_expiry bad_day day_not_over nothing_to_close period_closed day_attested period_soft_closed "
    "bad_currency bad_rule_code bad_rule not_of_this_kind rule_not_in_force nothing_due "
    "amount_too_large is_interest period_not_closed account_has_holds unknown_corrected hold_exceeded "
    "bad_effective_at not_whole_minor_units bad_party unknown_field reason_not_allowed "
    "reversal_refused_by_policy bad_statement",
    429: "sign_in_locked busy",
    500: "internal_error undecidable",
    503: "database_unavailable writer_unavailable outcome_unknown deadline_passed ledger_stopped "
    "projection_behind",
}
STATUS: dict[str, int] = {
    code: status for status, codes in _CODES_BY_STATUS.items() for code in codes.split()
}
"""The one table. Codes of other rooms are listed here too; a test compares."""

_SENTENCES = {
    **REFUSALS,
    "no_tile": "There is no such tile; a partial one has the width that the tree's size gives it.",
    "ledger_not_stopped": "The ledger is not stopped; there is nothing to resume.",
    "bad_json": "The body is not valid JSON in UTF-8.",
    "bad_http": "The request is malformed.",
    "bad_text": "The request holds characters or numbers that can't be stored.",
    "not_found": "There is nothing at this address; see /docs for the routes.",
    "method_not_allowed": "This address takes other methods; see the Allow header.",
    "body_too_large": "The body is larger than this route takes; send it in parts.",
    "unsupported_media_type": "Send application/json.",
    "invalid_request": "The request does not fit this route; see errors.",
    "internal_error": "Something failed inside; name the request id when you report it.",
    "database_unavailable": "The database does not answer; try again shortly.",
    "writer_unavailable": "The ledger's writer does not answer; try again shortly.",
    "outcome_unknown": "Whether this was done is not known: look it up by its idempotency key.",
}
_FROM_HTTP = {400: "bad_json", 404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


class Problem(Exception):
    """A refusal on its way to the caller. `facts` become members of the problem."""

    def __init__(
        self,
        code: str,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(code)
        self.code = code if code in STATUS else "internal_error"
        self.status = STATUS[self.code]
        self.detail = detail if detail and code in STATUS else _SENTENCES.get(self.code, "")
        self.headers = dict(headers or {})
        self.facts = facts if code in STATUS else {}
        if self.status == 401:
            self.headers.setdefault("WWW-Authenticate", "Bearer")


def refused(refusal: Refusal) -> Problem:
    """A domain refusal as a problem: its message becomes the detail, its facts stand beside."""
    facts = dict(refusal.detail)
    retry_after = facts.get("retry_after")
    return Problem(
        refusal.code,
        facts.pop("message", None),
        headers={"Retry-After": str(retry_after)} if retry_after else None,
        **facts,
    )


def problem_of(error: Exception) -> Problem:  # noqa: PLR0911 - a table, written as a match
    """Any exception as a problem; what is not foreseen is `internal_error`."""
    match error:
        case Problem():
            return error
        case RequestValidationError():
            return _of_validation(error)
        case SecurityRefusal():
            wait = error.retry_after
            return Problem(
                error.code, str(error), headers={"Retry-After": str(wait)} if wait else None
            )
        case PartyRefusal():
            return Problem(error.code, str(error), headers=None, **error.facts)
        case ProjectionBehind():
            return Problem(error.code, str(error), headers={"Retry-After": "1"})
        case IdentifierError() | MoneyError():
            return Problem(error.code, str(error))
        case HTTPException():
            code = _FROM_HTTP.get(error.status_code, "internal_error")
            headers = cast("dict[str, str]", error.headers or {})
            return Problem(code, headers=headers)
        case asyncpg.DataError() | asyncpg.CharacterNotInRepertoireError() | UnicodeEncodeError():
            return Problem("bad_text")
        case _ if isinstance(error, DATABASE_GONE):
            return Problem("database_unavailable")
        case _:
            return Problem("internal_error")


def _of_validation(error: RequestValidationError) -> Problem:
    """What does not fit and where; never the value, which may be personal."""
    found = error.errors()
    if any(item["type"] == "json_invalid" for item in found):
        return Problem("bad_json")
    errors = [
        {
            "where": ".".join(
                "?" if looks_personal(str(part)) else str(part) for part in item["loc"]
            ),
            "problem": str(item["msg"]),
        }
        for item in found[:20]
    ]
    return Problem("invalid_request", errors=errors)


def render(problem: Problem, request_id: str) -> Response:
    """The answer, as application/problem+json."""
    body = {
        "type": f"urn:tallystick:problem:{problem.code}",
        "title": problem.code.replace("_", " "),
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        "request_id": request_id,
        **problem.facts,
    }
    return Response(
        json.dumps(body, default=str).encode("ascii"),
        status_code=problem.status,
        headers=problem.headers,
        media_type="application/problem+json",
    )


async def _answer(request: Request, error: Exception) -> Response:
    request.state.refusal = error
    return render(problem_of(error), request.state.request_id)


def install(app: FastAPI) -> None:
    """Answer every foreseen exception from the table; the rest is caught at the edge."""
    for kind in (
        Problem,
        RequestValidationError,
        SecurityRefusal,
        PartyRefusal,
        ProjectionBehind,
        IdentifierError,
        MoneyError,
        HTTPException,
        asyncpg.DataError,
        asyncpg.CharacterNotInRepertoireError,
        UnicodeEncodeError,
        *DATABASE_GONE,
    ):
        app.add_exception_handler(kind, _answer)
