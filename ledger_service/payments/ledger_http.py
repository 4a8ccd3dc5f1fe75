"""The ledger as the payments worker sees it: its HTTP API, and three kinds of answer.

A call that moves money ends in a posting, in a refusal that says why, or in not knowing. Not
knowing is a value of its own: it is never taken for a refusal, and the next step is a question by
the idempotency key, never a second blind call.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import httpx
import structlog

log = structlog.get_logger()

_VERDICTS = frozenset({404, 409, 422})
"""Statuses with which the ledger refuses; every other is about the call: our key, or the moment."""
_NO_VERDICT = frozenset({"in_flight", "not_found"})


@dataclasses.dataclass(frozen=True)
class Posted:
    """The ledger holds the transaction."""

    seq: int


@dataclasses.dataclass(frozen=True)
class Refused:
    """The ledger will not do it; nothing was posted."""

    code: str


class UnknownAnswer(Exception):
    """Whether the ledger did it is not known. `code` says how the answer was lost."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class LedgerHttp:
    """Calls with the key of this service."""

    def __init__(self, base_url: str, api_key: str, *, timeout_s: float = 10.0) -> None:
        self._client = httpx.AsyncClient(
            base_url=base_url,
            timeout=timeout_s,
            headers={"authorization": f"Bearer {api_key}"},
            transport=httpx.AsyncHTTPTransport(retries=0),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def reverse(
        self, ledger: str, transaction: int, body: dict[str, Any]
    ) -> Posted | Refused:
        """Reverse a transaction. Errors: `UnknownAnswer`."""
        return await self._ask(
            "POST", f"/v1/ledgers/{ledger}/transactions/{transaction}:reverse", json=body
        )

    async def find(self, ledger: str, idempotency_key: str) -> Posted | None:
        """What was posted under the key; None where the ledger knows of nothing.

        Errors: `UnknownAnswer` where the ledger could not be asked.
        """
        answer = await self._ask(
            "GET", f"/v1/ledgers/{ledger}/transactions", params={"idempotency_key": idempotency_key}
        )
        if isinstance(answer, Posted):
            return answer
        if answer.code != "unknown_transaction":
            raise UnknownAnswer(answer.code)
        return None

    async def _ask(self, method: str, path: str, **arguments: Any) -> Posted | Refused:
        try:
            answer = await self._client.request(method, path, **arguments)
            content = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise UnknownAnswer(_how_lost(error)) from None
        if answer.is_success and isinstance(content.get("seq"), int):
            return Posted(content["seq"])
        code = content.get("code")
        if not isinstance(code, str):
            raise UnknownAnswer(f"http_{answer.status_code}")
        if answer.status_code in _VERDICTS and code not in _NO_VERDICT:
            return Refused(code)
        log.warning("ledger.no_verdict", status=answer.status_code, code=code)
        raise UnknownAnswer(code)


def _how_lost(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "ledger_timed_out"
    return (
        "ledger_unreachable" if isinstance(error, httpx.HTTPError) else "ledger_answer_unreadable"
    )
