"""What a bank statement says, whatever format it came in."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Literal

Format = Literal["bai2", "camt.053"]
LineSide = Literal["credit", "debit"]


class StatementError(ValueError):
    """A file that can't be taken as a bank's word.

    `code` is stable; `line` is the line of the file (None: the whole file). The message says what
    to do and never repeats what the file holds: a statement carries names and account numbers.
    """

    def __init__(self, code: str, message: str, line: int | None = None) -> None:
        super().__init__(message if line is None else f"Line {line}: {message}")
        self.code = code
        self.line = line


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One movement. `amount` is positive minor units; credit is money in, as the bank sees us."""

    side: LineSide
    amount: int
    value_date: dt.date
    bank_code: str
    """BAI type code, or ISO bank transaction code joined by hyphens."""
    reference: str | None
    text: str = ""
    """What the bank wrote in words; may hold personal data, goes to the vault only."""


@dataclasses.dataclass(frozen=True, slots=True)
class Statement:
    """One day of one account. Balances are signed minor units, positive what the bank owes us."""

    account_number: str
    currency: str
    statement_date: dt.date
    opening_balance: int | None
    """None: the file states none."""
    closing_balance: int | None
    """None: the file states no booked closing balance in the account's currency."""
    lines: tuple[Line, ...]
