"""Statements as a BAI2 file, as the sandbox bank sends them."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Sequence

from ledger_service.rails.statements.bai2 import CLOSING_LEDGER, OPENING_LEDGER
from ledger_service.rails.statements.model import Line, Statement, StatementError


def _field(text: str) -> str:
    if any(sign in text for sign in ",/\r\n"):
        raise StatementError(
            "unwritable_field", "A BAI2 field holds no comma, slash or line break."
        )
    return text


def _records(line: Line) -> list[str]:
    value_date = line.value_date.strftime("%y%m%d")
    first, *more = line.text.split("\n")
    head = (
        f"16,{line.bank_code},{line.amount},V,{value_date},,,{_field(line.reference or '')},{first}"
    )
    # Text that ends in a slash would be read as the end of the record.
    return [head if first else head + "/", *(f"88,{part}" for part in more)]


def _account(statement: Statement) -> tuple[list[str], int]:
    balances = [
        (code, amount)
        for code, amount in (
            (OPENING_LEDGER, statement.opening_balance),
            (CLOSING_LEDGER, statement.closing_balance),
        )
        if amount is not None
    ]
    summary = "".join(f",{code},{amount},," for code, amount in balances)
    body = [f"03,{_field(statement.account_number)},{statement.currency}{summary}/"]
    for line in statement.lines:
        body += _records(line)
    total = sum(amount for _, amount in balances) + sum(line.amount for line in statement.lines)
    return [*body, f"49,{total},{len(body) + 1}/"], total


def write(
    statements: Sequence[Statement], *, sender: str, receiver: str, created: dt.datetime
) -> bytes:
    """One file, a group for each day. A line's `bank_code` must be a type code of its side."""
    lines: list[str] = [
        f"01,{_field(sender)},{_field(receiver)},{created:%y%m%d},{created:%H%M},1,,,2/"
    ]
    file_total, groups = 0, 0
    for day, of_day in itertools.groupby(
        statements, key=lambda statement: statement.statement_date
    ):
        group = [f"02,{receiver},{sender},1,{day:%y%m%d},2400,,2/"]
        group_total, accounts = 0, 0
        for statement in of_day:
            body, total = _account(statement)
            group += body
            group_total += total
            accounts += 1
        lines += [*group, f"98,{group_total},{accounts},{len(group) + 1}/"]
        file_total += group_total
        groups += 1
    lines.append(f"99,{file_total},{groups},{len(lines) + 1}/")
    return ("\n".join(lines) + "\n").encode()
