"""The ledger API over HTTP, as the signed-in person."""

from __future__ import annotations

from typing import Any

import httpx

from ledger_service.contract import events


class LedgerProblem(Exception):
    """The API refused (RFC 9457). `code` is stable, the message says what to do."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


class LedgerAway(Exception):
    """The API does not answer."""


class Ledger:
    """Calls with one person's own token: what they may not do, the API refuses."""

    def __init__(self, client: httpx.Client, token: str | None = None) -> None:
        self._client = client
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    def call(
        self, method: str, path: str, *, body: Any = None, query: dict[str, Any] | None = None
    ) -> httpx.Response:
        """One request. Errors: `LedgerProblem`, `LedgerAway`."""
        params = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            response = self._client.request(
                method, path, json=body, params=params, headers=self._headers
            )
        except httpx.HTTPError as error:
            raise LedgerAway(type(error).__name__) from error
        if response.status_code >= 400:
            raise _problem(response)
        return response

    def get(self, path: str, **query: Any) -> Any:
        """The JSON at `path`."""
        return _json(self.call("GET", path, query=query))

    def post(self, path: str, body: Any) -> Any:
        """The JSON that a POST answers."""
        return _json(self.call("POST", path, body=body))

    def text(self, path: str) -> str:
        """The text at `path`."""
        return self.call("GET", path).text

    def exponents(self, ledger: str) -> dict[str, int]:
        """Decimal places of each currency that a ledger keeps, its own among them."""
        return self.get(f"/v1/ledgers/{ledger}")["exponents"]

    def journal_event(self, ledger: str, seq: int) -> tuple[events.JournalEvent, bytes]:
        """An event of the journal and its canonical bytes, from which it is read here.

        So if their hash is the leaf that the signed tree holds, then what the page shows is what was
        recorded. Errors: `LedgerProblem`, `LedgerAway`; `msgspec.MsgspecError` for what is no event.
        """
        raw = self.call("GET", f"/v1/ledgers/{ledger}/events/{seq}").content
        return events.decode_journal(raw), raw


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise LedgerAway("NotJson") from error


def _problem(response: httpx.Response) -> LedgerProblem:
    try:
        body = response.json()
        return LedgerProblem(
            response.status_code, str(body["code"]), str(body.get("detail") or body["code"])
        )
    except (ValueError, KeyError, TypeError):
        return LedgerProblem(
            response.status_code, "bad_answer", "The ledger API answered without a reason."
        )
