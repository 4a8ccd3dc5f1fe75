"""Statements of partner banks: which account is whose, and the files as the banks send them."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from ledger_service.api.bodies import Body, Text
from ledger_service.api.problems import Problem
from ledger_service.api.who import Principal, require
from ledger_service.contract import environment
from ledger_service.contract.events import timestamp
from ledger_service.parties.files import store_file
from ledger_service.rails.statements import formats, importer
from ledger_service.rails.statements.model import StatementError
from ledger_service.rails.statements.tokens import Tokens

router = APIRouter(tags=["statements"])

BankCode = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{1,39}$")]
"""A partner bank's code, lower case: `sandbox_bank`."""


class StatementAccountBody(Body):
    """A partner's account, and the ledger account that its statements are compared with."""

    bank: BankCode
    account_number: Annotated[Text, Field(min_length=1, max_length=64)]
    """As on the statements; only a keyed token of it is kept."""
    ledger: Annotated[str, Field(max_length=31)]
    account: Annotated[str, Field(max_length=128)]
    purpose: Literal["fbo", "operating", "stated_balance"]
    rounded_half_minor_per_entry: Literal[0, 1] = 0


class Batch(Body):
    """Up to 1,000 accounts, registered together."""

    statement_accounts: Annotated[list[StatementAccountBody], Field(min_length=1, max_length=1000)]


def _tokens() -> Tokens:
    return Tokens(base64.b64decode(environment.read("TALLYSTICK_TOKEN_KEY")))


async def _register(request: Request, bodies: list[StatementAccountBody]) -> list[str]:
    wanted = [importer.Registration(**body.model_dump()) for body in bodies]
    try:
        async with request.app.state.pool.acquire() as connection, connection.transaction():
            return await importer.register(connection, _tokens(), wanted)
    except importer.RegistrationConflictError as conflict:
        raise Problem(
            "statement_account_conflict",
            "This account number is registered for another account or purpose.",
            registered=conflict.registered,
        ) from None


@router.post("/v1/statement-accounts", status_code=201)
async def register(
    body: StatementAccountBody,
    _who: Annotated[Principal, require("accounts.open")],
    request: Request,
) -> dict[str, str]:
    """Register a partner's account; registering it alike again gives the same token."""
    [token] = await _register(request, [body])
    return {"statement_account": token}


@router.post("/v1/statement-accounts:batch")
async def register_batch(
    body: Batch,
    _who: Annotated[Principal, require("accounts.open")],
    request: Request,
) -> dict[str, list[str]]:
    """Register up to 1,000 accounts, all or none; their tokens in the same order."""
    return {"statement_accounts": await _register(request, body.statement_accounts)}


@router.get("/v1/statement-accounts")
async def list_accounts(
    _who: Annotated[Principal, require("statements.read")],
    request: Request,
    after: Annotated[str, Query(max_length=64)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> dict[str, list[dict[str, Any]]]:
    """Registered accounts by token."""
    async with request.app.state.pool.acquire() as connection:
        rows = await connection.fetch(
            "select statement_account, bank, ledger, account, purpose, "
            "rounded_half_minor_per_entry from statement.account where statement_account > $1 order by 1 limit $2",
            after,
            limit,
        )
    return {"statement_accounts": [dict(row) for row in rows]}


@router.post("/v1/statements", status_code=201, max_body_size=formats.MAX_FILE_BYTES)
async def receive(
    bank: Annotated[BankCode, Query()],
    _who: Annotated[Principal, require("statements.import")],
    request: Request,
) -> Response:
    """Import a raw BAI2 or camt.053 file. The same file again is a no-op: 200, `duplicate`.

    The file goes into the vault; tokens, amounts and references go to the `statements` stream, in
    one transaction. Statements that can't be taken are listed under `quarantined`, with reasons.
    A file that is none, or whose controls do not hold, is refused whole: 422 `bad_statement`.
    """
    raw = await request.body()
    try:
        parsed = await run_in_threadpool(formats.read, raw)
    except StatementError as error:
        raise Problem(
            "bad_statement", str(error), statement_code=error.code, line=error.line
        ) from None
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        stored = await store_file(connection, raw, parsed[0], bank)
        imported = await importer.import_file(
            connection, _tokens(), raw=raw, bank=bank, file=stored.file, parsed=parsed
        )
    answer = {
        "file": imported.file,
        "format": parsed[0],
        "statements": imported.statements,
        "lines": imported.lines,
        "duplicate": imported.duplicate,
        "quarantined": [
            {"position": item.position, "reason": item.reason, "detail": item.detail}
            for item in imported.quarantined
        ],
    }
    return JSONResponse(answer, 200 if imported.duplicate else 201)


@router.get("/v1/statements")
async def list_files(
    _who: Annotated[Principal, require("statements.read")],
    request: Request,
    after: Annotated[str, Query(pattern=r"^([0-9a-f]{64})?$")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> dict[str, list[dict[str, Any]]]:
    """Files that were taken, by hash; `quarantined` counts statements that still wait."""
    async with request.app.state.pool.acquire() as connection:
        rows = await connection.fetch(
            """
            select encode(f.file_hash, 'hex') as sha256, f.file_id as file, f.bank, f.format,
                   f.received_at, f.statements,
                   (select count(*) from statement.statement as s where s.file_hash = f.file_hash)
                     as imported,
                   (select count(distinct q.position) from statement.quarantine as q
                     where q.file_hash = f.file_hash and not exists (
                       select 1 from statement.statement as s
                        where s.file_hash = q.file_hash and s.position = q.position))
                     as quarantined
              from statement.file as f
             where f.file_hash > decode($1, 'hex')
             order by f.file_hash limit $2
            """,
            after,
            limit,
        )
    files = [{**dict(row), "received_at": timestamp(row["received_at"])} for row in rows]
    return {"files": files}
