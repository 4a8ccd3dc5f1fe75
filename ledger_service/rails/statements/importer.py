"""From a bank's file to the `statements` stream: once, in one transaction, without personal data.

What is announced are tokens, dates, amounts and parsed references; the raw file is in the vault
(the caller put it there in the same transaction). A statement that can't be taken is quarantined
with its reason and does not hold up the others of its file; sending the same file again takes up
what was quarantined, once its cause is gone, and is otherwise a no-op.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg

from ledger_service.contract.events import (
    StatementAccountRegistered,
    StatementLine,
    StatementReceived,
)
from ledger_service.contract.identifiers import check_account, check_ledger, refuse_personal
from ledger_service.engine import streams
from ledger_service.rails.statements.model import Format, Line, Statement
from ledger_service.rails.statements.tokens import Tokens

STREAM = "statements"


class RegistrationConflictError(ValueError):
    """The bank's account is registered already, for something else. `registered` is what for."""

    def __init__(self, registered: dict[str, Any]) -> None:
        super().__init__("this account number is registered for another account or purpose")
        self.registered = registered


@dataclasses.dataclass(frozen=True)
class Registration:
    """Which ledger account a bank's account is compared with."""

    bank: str
    account_number: str
    ledger: str
    account: str
    purpose: str
    rounded_half_minor_per_entry: int


@dataclasses.dataclass(frozen=True)
class Quarantined:
    """A statement of a file that was not imported. `position` counts from 1."""

    position: int
    reason: str
    detail: str


@dataclasses.dataclass(frozen=True)
class Imported:
    """What became of a file."""

    file: str
    statements: int
    lines: int
    duplicate: bool
    quarantined: list[Quarantined]


async def register(
    connection: asyncpg.Connection, tokens: Tokens, wanted: Sequence[Registration]
) -> list[str]:
    """Register bank accounts; gives their tokens. What is registered alike stays as it is.

    Runs in the caller's transaction. Errors: IdentifierError, RegistrationConflictError.
    """
    rows: dict[str, Registration] = {}
    names: list[str] = []
    for registration in wanted:
        check_ledger(registration.ledger)
        check_account(registration.account)
        refuse_personal(registration.bank, "bank")
        token = tokens.statement_account(registration.bank, registration.account_number)
        rows[token] = registration
        names.append(token)
    fresh = await connection.fetch(
        """
        insert into statement.account
          (statement_account, bank, ledger, account, purpose, rounded_half_minor_per_entry)
        select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[])
        on conflict (statement_account) do nothing
        returning statement_account
        """,
        list(rows),
        *(
            [getattr(row, name) for row in rows.values()]
            for name in ("bank", "ledger", "account", "purpose", "rounded_half_minor_per_entry")
        ),
    )
    known = await connection.fetch(
        "select statement_account, bank, ledger, account, purpose, rounded_half_minor_per_entry "
        "from statement.account where statement_account = any($1::text[])",
        list(rows),
    )
    for row in known:
        registration = rows[row["statement_account"]]
        stored = {name: value for name, value in row.items() if name != "statement_account"}
        if any(getattr(registration, name) != value for name, value in stored.items()):
            raise RegistrationConflictError(dict(row))
    makers = [
        (row["statement_account"], functools.partial(_registered, row["statement_account"], rows))
        for row in fresh
    ]
    if makers:
        await streams.append(connection, STREAM, makers)
    return names


def _registered(
    token: str, rows: dict[str, Registration], seq: int, at: str
) -> StatementAccountRegistered:
    row = rows[token]
    return StatementAccountRegistered(
        stream=STREAM,
        seq=seq,
        recorded_at=at,
        statement_account=token,
        ledger=row.ledger,
        account=row.account,
        bank=row.bank,
        purpose=row.purpose,  # type: ignore[arg-type]  # the API and the table take no other
        rounded_half_minor_per_entry=row.rounded_half_minor_per_entry,
    )


def _content_hash(token: str, statement: Statement) -> bytes:
    content = (token, dataclasses.replace(statement, account_number=""))
    return hashlib.sha256(repr(content).encode()).digest()


def _unfit(statement: Statement, registered: bool, seen: bool) -> tuple[str, str] | None:
    """Why a statement can't be imported: reason and what to do; None if it can."""
    if not registered:
        return (
            "unknown_statement_account",
            "Its account is not registered: POST /v1/statement-accounts, then send the file again.",
        )
    if statement.closing_balance is None:
        return (
            "no_closing_balance",
            "It states no booked closing balance in the account's currency; ask the bank for one.",
        )
    if seen:
        return (
            "statement_known",
            "The same statement came in another file; nothing is to be done.",
        )
    return None


class _Day:
    """One statement on its way into the stream."""

    def __init__(
        self, name: str, token: str, bank: str, format_: Format, statement: Statement
    ) -> None:
        self.name, self.token, self.bank = name, token, bank
        self.format: Format = format_
        self.statement = statement

    def received(self, seq: int, at: str) -> StatementReceived:
        opening = self.statement.opening_balance
        return StatementReceived(
            stream=STREAM,
            seq=seq,
            recorded_at=at,
            statement=self.name,
            statement_account=self.token,
            bank=self.bank,
            statement_date=self.statement.statement_date.isoformat(),
            currency=self.statement.currency,
            opening_balance=None if opening is None else str(opening),
            closing_balance=str(self.statement.closing_balance),
            line_count=len(self.statement.lines),
            format=self.format,
        )

    def line(self, number: int, line: Line, tokens: Tokens, seq: int, at: str) -> StatementLine:
        return StatementLine(
            stream=STREAM,
            seq=seq,
            recorded_at=at,
            statement=self.name,
            statement_account=self.token,
            line_no=number,
            statement_date=self.statement.statement_date.isoformat(),
            value_date=line.value_date.isoformat(),
            side=line.side,
            amount=str(line.amount),
            currency=self.statement.currency,
            reference=tokens.reference(line.reference),
            bank_code=tokens.reference(line.bank_code) or "",
        )

    def makers(self, tokens: Tokens) -> Iterator[tuple[str, streams.Maker]]:
        yield self.token, self.received
        for number, line in enumerate(self.statement.lines, 1):
            yield self.token, functools.partial(self.line, number, line, tokens)


async def import_file(
    connection: asyncpg.Connection,
    tokens: Tokens,
    *,
    raw: bytes,
    bank: str,
    file: str,
    parsed: tuple[Format, list[Statement]],
) -> Imported:
    """Import what of a file is new. `file` is its id in the vault; `parsed` is `formats.read(raw)`.

    Runs in the caller's transaction, which also stored the file. Errors: those of the database;
    IdentifierError for a bank's name that looks personal.
    """
    refuse_personal(bank, "bank")
    format_, statements = parsed
    file_hash = hashlib.sha256(raw).digest()
    # Two deliveries of one file take turns: the second finds what the first imported.
    await connection.execute(
        "select pg_advisory_xact_lock(hashtextextended($1, 0))", file_hash.hex()
    )
    is_new = await connection.fetchval(
        "insert into statement.file (file_hash, file_id, bank, format, statements) "
        "values ($1, $2, $3, $4, $5) on conflict (file_hash) do nothing returning true",
        *(file_hash, file, bank, format_, len(statements)),
    )
    if not is_new:
        file = str(
            await connection.fetchval(
                "select file_id from statement.file where file_hash = $1", file_hash
            )
        )
    done = {
        row["position"]
        for row in await connection.fetch(
            "select position from statement.statement where file_hash = $1", file_hash
        )
    }
    names = [tokens.statement_account(bank, statement.account_number) for statement in statements]
    hashes = [_content_hash(name, one) for name, one in zip(names, statements, strict=True)]
    registered = await _among(connection, "account", "statement_account", "text", names)
    seen = await _among(connection, "statement", "content_hash", "bytea", hashes)

    days: list[tuple[int, _Day, bytes]] = []
    quarantined: list[Quarantined] = []
    for position, (name, content, statement) in enumerate(
        zip(names, hashes, statements, strict=True), 1
    ):
        if position in done:
            continue
        unfit = _unfit(statement, name in registered, content in seen)
        if unfit:
            quarantined.append(Quarantined(position, *unfit))
            continue
        seen.add(content)
        days.append((position, _Day(f"{file}-{position}", name, bank, format_, statement), content))
    await _store(connection, tokens, file_hash, days, quarantined)
    return Imported(
        file=file,
        statements=len(days),
        lines=sum(len(day.statement.lines) for _, day, _ in days),
        duplicate=not is_new and not days,
        quarantined=quarantined,
    )


async def _among(
    connection: asyncpg.Connection, table: str, column: str, kind: str, values: Sequence[Any]
) -> set[Any]:
    found = await connection.fetch(
        f"select {column} from statement.{table} where {column} = any($1::{kind}[])", values
    )
    return {row[column] for row in found}


async def _store(
    connection: asyncpg.Connection,
    tokens: Tokens,
    file_hash: bytes,
    days: Sequence[tuple[int, _Day, bytes]],
    quarantined: Sequence[Quarantined],
) -> None:
    await connection.executemany(
        "insert into statement.quarantine (file_hash, position, reason, detail) "
        "values ($1, $2, $3, $4) on conflict do nothing",
        [(file_hash, item.position, item.reason, item.detail) for item in quarantined],
    )
    if not days:
        return
    await connection.copy_records_to_table(
        "statement",
        schema_name="statement",
        columns=[
            *("statement", "file_hash", "position", "statement_account", "statement_date"),
            *("content_hash", "line_count"),
        ],
        records=[
            (
                *(day.name, file_hash, position, day.token, day.statement.statement_date),
                *(content, len(day.statement.lines)),
            )
            for position, day, content in days
        ],
    )
    makers = [maker for _, day, _ in days for maker in day.makers(tokens)]
    await streams.append(connection, STREAM, makers)
