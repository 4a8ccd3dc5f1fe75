"""`tally run bank`: the sandbox bank as a process of its own, reached by signed HTTP."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ledger_service.contract import environment, logs
from ledger_service.contract.money import MoneyError
from ledger_service.rails import signing
from ledger_service.rails.sandbox_bank import (
    BankError,
    Books,
    CloseDays,
    Movement,
    NewAccount,
    StatedBalance,
)

MAX_BODY_BYTES = 16 * 1024 * 1024
_PAGE = 500
_STATUS = {
    "unknown_account": 404,
    "unknown_delivery": 404,
    "unknown_statement": 404,
    "replayed": 401,
}
_MEDIA_TYPES = {"bai2": "text/plain; charset=utf-8", "camt.053": "application/xml"}
T = TypeVar("T")


def _decode(kind: type[T], body: bytes) -> list[T]:
    """A body of NDJSON, each line one `kind`. Errors: BankError `bad_request`."""
    decoder = msgspec.json.Decoder(kind)
    try:
        return [decoder.decode(line) for line in body.splitlines() if line.strip()]
    except msgspec.MsgspecError as error:
        raise BankError("bad_request", f"The body does not fit: {error}") from None


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise BankError("body_too_large", "A body may be 16 MiB; send it in parts.")
    return bytes(body)


class Bank:
    """The routes over the books."""

    def __init__(self, books: Books, secret: str) -> None:
        self._books = books
        self._secret = secret

    def _signed(self, handle: Callable[[Request, bytes], Any]) -> Callable[[Request], Any]:
        async def route(request: Request) -> Response:
            try:
                body = await _body(request)
                query = f"?{request.url.query}" if request.url.query else ""
                nonce = signing.verify(
                    self._secret, request.method, request.url.path + query, body, request.headers
                )
                self._books.use_nonce(nonce, signing.WINDOW_SECONDS)
                answer = await run_in_threadpool(handle, request, body)
            except signing.SignatureRefusedError as error:
                return JSONResponse({"code": error.code, "detail": str(error)}, 401)
            except (BankError, MoneyError) as error:
                status = _STATUS.get(error.code, 422)
                return JSONResponse({"code": error.code, "detail": str(error)}, status)
            return answer if isinstance(answer, Response) else JSONResponse(answer)

        return route

    def _open_accounts(self, _request: Request, body: bytes) -> dict[str, int]:
        accounts = _decode(NewAccount, body)
        self._books.open_accounts(accounts)
        return {"accounts": len(accounts)}

    def _movements(self, _request: Request, body: bytes) -> dict[str, int]:
        return {"recorded": self._books.record(_decode(Movement, body))}

    def _balances(self, _request: Request, body: bytes) -> dict[str, int]:
        return {"recorded": self._books.state(_decode(StatedBalance, body))}

    def _close_days(self, _request: Request, body: bytes) -> dict[str, int]:
        now = dt.datetime.now(dt.UTC)
        return {
            "statements": sum(self._books.close_days(one, now) for one in _decode(CloseDays, body))
        }

    def _statements(self, request: Request, _body: bytes) -> dict[str, Any]:
        after = request.query_params.get("after", "0")
        if not after.isdigit():
            raise BankError("bad_request", "after is the id of the last statement that is known.")
        return {"statements": self._books.statements(int(after), _PAGE)}

    def _statement(self, request: Request, _body: bytes) -> Response:
        format_, content = self._books.statement(request.path_params["statement"])
        return Response(content, media_type=_MEDIA_TYPES[format_])

    def routes(self) -> list[Route]:
        """The signed routes, and the open probes."""

        async def probe(_request: Request) -> Response:
            return JSONResponse({"ready": True})

        return [
            Route("/livez", probe),
            Route("/readyz", probe),
            Route("/accounts", self._signed(self._open_accounts), methods=["POST"]),
            Route("/movements", self._signed(self._movements), methods=["POST"]),
            Route("/balances", self._signed(self._balances), methods=["POST"]),
            Route("/close-days", self._signed(self._close_days), methods=["POST"]),
            Route("/statements", self._signed(self._statements), methods=["GET"]),
            Route("/statements/{statement:int}", self._signed(self._statement), methods=["GET"]),
        ]


def create_app(books: Books, secret: str) -> Starlette:
    """The application; it closes the books when it stops."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        books.close()

    return Starlette(routes=Bank(books, secret).routes(), lifespan=lifespan)


def main() -> None:
    """Serve until SIGTERM; requests under way are finished."""
    logs.configure("bank", environment.read("TALLYSTICK_LOG_LEVEL"))
    host, port = environment.host_and_port("TALLYSTICK_LISTEN")
    secret = environment.read("TALLYSTICK_BANK_SECRET")
    books = Books(environment.home() / "bank" / "bank.sqlite")
    uvicorn.run(create_app(books, secret), host=host, port=port, log_config=None, access_log=False)
