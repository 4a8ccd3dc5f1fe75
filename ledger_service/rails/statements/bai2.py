"""BAI2 as a structure (`parse`), checked against its own controls, and as statements (`read`).

The controls are the only protection the format has: an amount or a record that was changed, lost or
added on the way shows there. So `read` refuses a file whose control totals or counts do not hold.
"""

from __future__ import annotations

import calendar
import dataclasses
import datetime as dt
import re

from ledger_service.contract.money import MoneyError, exponent
from ledger_service.rails.statements.bai2_records import Fields, Record, records
from ledger_service.rails.statements.model import Line, LineSide, Statement, StatementError

OPENING_LEDGER, CLOSING_LEDGER = "010", "015"
_NON_MONETARY = "890"
_AMOUNT = re.compile(r"[+-]?[0-9]{1,20}\Z")
_TYPE_CODE = re.compile(r"[0-9]{3}\Z")


@dataclasses.dataclass(slots=True)
class Summary:
    """A balance or total of an account (in record 03). None: the bank left the amount open."""

    code: str
    amount: int | None


@dataclasses.dataclass(slots=True)
class Detail:
    """A movement (record 16), signs as written."""

    line: int
    code: str
    amount: int | None
    value_date: dt.date | None
    bank_reference: str
    customer_reference: str
    text: str


@dataclasses.dataclass(slots=True)
class Control:
    """A closing record: what the sender counted. `parts`: accounts of a group, groups of a file."""

    line: int
    total: int
    parts: int | None
    records: int


@dataclasses.dataclass(slots=True)
class Account:
    line: int
    number: str
    currency: str
    summaries: list[Summary]
    details: list[Detail]
    physical: int
    control: Control | None = None


@dataclasses.dataclass(slots=True)
class Group:
    line: int
    receiver: str
    originator: str
    status: str
    as_of: dt.date
    currency: str
    accounts: list[Account]
    control: Control | None = None


@dataclasses.dataclass(slots=True)
class File:
    sender: str
    receiver: str
    created: dt.date
    file_id: str
    groups: list[Group]
    control: Control | None = None


def _date(text: str, line: int) -> dt.date:
    """YYMMDD. A day past the month's end (30 February: banks count 30-day months) is its last."""
    if not (
        len(text) == 6 and text.isdigit() and 1 <= int(text[2:4]) <= 12 and 1 <= int(text[4:]) <= 31
    ):
        raise StatementError("bad_date", "a date is six digits, YYMMDD; ask the bank.", line)
    year, month, day = 2000 + int(text[:2]), int(text[2:4]), int(text[4:])
    return dt.date(year, month, min(day, calendar.monthrange(year, month)[1]))


def _amount(text: str, line: int) -> int | None:
    if not text:
        return None
    if not _AMOUNT.match(text):
        raise StatementError(
            "bad_amount",
            "an amount is digits without a point, with a sign or none; ask the bank.",
            line,
        )
    return int(text)


def _count(text: str, line: int) -> int:
    if not text.isdigit():
        raise StatementError("bad_count", "a count is digits; ask the bank.", line)
    return int(text)


def _type_code(text: str, line: int) -> str:
    if not _TYPE_CODE.match(text):
        raise StatementError("bad_type_code", "a type code is three digits; ask the bank.", line)
    return text


def _funds(fields: Fields, line: int) -> dt.date | None:
    """Take a funds type and what belongs to it; gives the value date, where it states one."""
    kind = fields.take()
    if kind in ("", "0", "1", "2", "Z"):
        return None
    if kind == "V":
        date, _time = fields.take(), fields.take()
        return _date(date, line) if date else None
    if kind == "S":
        extra = 3
    elif kind == "D":
        extra = 2 * _count(fields.take(), line)
    else:
        raise StatementError(
            "bad_funds_type", "a funds type is 0, 1, 2, V, S, D, Z or empty.", line
        )
    for _ in range(extra):
        fields.take()
    return None


def _file(record: Record) -> File:
    fields = Fields(record)
    sender, receiver, created, _time, file_id = (fields.take() for _ in range(5))
    _record_length, _block_size, version = (fields.take() for _ in range(3))
    if version != "2":
        raise StatementError(
            "unknown_version", "only version 2 of the format (BAI2) is read.", record.line
        )
    return File(sender, receiver, _date(created, record.line), file_id, [])


def _group(record: Record) -> Group:
    fields = Fields(record)
    receiver, originator, status, as_of, _time, currency = (fields.take() for _ in range(6))
    date = _date(as_of, record.line)
    return Group(record.line, receiver, originator, status, date, currency or "USD", [])


def _account(record: Record, currency: str) -> Account:
    fields = Fields(record)
    number, own_currency = fields.take(), fields.take()
    if not number:
        raise StatementError(
            "no_account_number", "the account has no number; ask the bank.", record.line
        )
    currency = own_currency or currency
    try:
        exponent(currency)
    except MoneyError as error:
        raise StatementError(error.code, str(error), record.line) from None
    summaries: list[Summary] = []
    while fields.more():
        code = fields.take()
        amount, _items = _amount(fields.take(), record.line), fields.take()
        _funds(fields, record.line)
        if code:
            summaries.append(Summary(_type_code(code, record.line), amount))
    return Account(record.line, number, currency, summaries, [], record.physical)


def _detail(record: Record) -> Detail:
    fields = Fields(record)
    code = _type_code(fields.take(), record.line)
    amount = _amount(fields.take(), record.line)
    value_date = _funds(fields, record.line)
    return Detail(
        record.line, code, amount, value_date, fields.take(), fields.take(), fields.rest()
    )


def _control(record: Record) -> Control:
    fields = Fields(record)
    total = _amount(fields.take(), record.line)
    parts = None if record.code == "49" else _count(fields.take(), record.line)
    count = _count(fields.take(), record.line)
    if total is None:
        raise StatementError(
            "bad_amount", "the control total is missing; ask the bank.", record.line
        )
    return Control(record.line, total, parts, count)


class _Builder:
    """Puts records where they belong; `open_*` is what the next record may add to."""

    def __init__(self) -> None:
        self.file: File | None = None
        self.open_group: Group | None = None
        self.open_account: Account | None = None

    def add(self, record: Record) -> None:
        place = {
            "01": self.file is None,
            "02": self.file is not None and self.file.control is None and self.open_group is None,
            "03": self.open_group is not None and self.open_account is None,
            "16": self.open_account is not None,
            "49": self.open_account is not None,
            "98": self.open_group is not None and self.open_account is None,
            "99": self.file is not None and self.file.control is None and self.open_group is None,
        }[record.code]
        if not place:
            raise StatementError(
                "misplaced_record",
                f"a record {record.code} may not stand here; one before it is missing. Ask the "
                "bank to send the file again.",
                record.line,
            )
        if record.code == "01":
            self.file = _file(record)
        elif record.code in ("02", "99"):
            self._in_file(record)
        elif record.code in ("03", "98"):
            self._in_group(record)
        else:
            self._in_account(record)

    def _in_file(self, record: Record) -> None:
        assert self.file is not None  # noqa: S101 - `add` looked
        if record.code == "02":
            self.open_group = _group(record)
            self.file.groups.append(self.open_group)
        else:
            self.file.control = _control(record)

    def _in_group(self, record: Record) -> None:
        assert self.open_group is not None  # noqa: S101 - `add` looked
        if record.code == "03":
            self.open_account = _account(record, self.open_group.currency)
            self.open_group.accounts.append(self.open_account)
        else:
            self.open_group.control = _control(record)
            self.open_group = None

    def _in_account(self, record: Record) -> None:
        assert self.open_account is not None  # noqa: S101 - `add` looked
        if record.code == "16":
            self.open_account.details.append(_detail(record))
            self.open_account.physical += record.physical
        else:
            self.open_account.control = _control(record)
            self.open_account = None


def parse(raw: bytes) -> File:
    """The file as it is written; its controls are not compared. Errors: StatementError."""
    builder = _Builder()
    for record in records(raw):
        builder.add(record)
    if builder.file is None or builder.file.control is None:
        raise StatementError(
            "incomplete_file",
            "The file has no trailer (99): it was cut off. Ask the bank to send it again.",
        )
    return builder.file


def _compare(control: Control | None, total: int, parts: int | None, count: int) -> Control:
    if control is None:
        raise StatementError("incomplete_file", "A trailer (49 or 98) is missing; ask the bank.")
    for what, stated, found in (
        ("control total", control.total, total),
        ("number of parts", control.parts, parts),
        ("number of records", control.records, count),
    ):
        if stated != found:
            raise StatementError(
                "control_differs",
                f"the {what} is stated as {stated}, the file holds {found}: it was changed or is "
                "incomplete. Ask the bank to send it again.",
                control.line,
            )
    return control


def check_controls(file: File) -> None:
    """Compare every total and count with what the file holds. Errors: `control_differs`."""
    file_total, file_records = 0, 2
    for group in file.groups:
        group_total, group_records = 0, 2
        for account in group.accounts:
            amounts = [part.amount or 0 for part in (*account.summaries, *account.details)]
            control = _compare(account.control, sum(amounts), None, account.physical + 1)
            group_total += control.total
            group_records += control.records
        control = _compare(group.control, group_total, len(group.accounts), group_records)
        file_total += control.total
        file_records += control.records
    _compare(file.control, file_total, len(file.groups), file_records)


def _side(code: str, line: int) -> LineSide:
    """By the ranges of the specification; 920 to 959 and 960 to 999 are the bank's own."""
    number = int(code)
    if 100 <= number < 400 or 920 <= number < 960:
        return "credit"
    if 400 <= number < 700 or 960 <= number <= 999:
        return "debit"
    raise StatementError(
        "bad_type_code", f"type code {code} is neither a credit nor a debit.", line
    )


def _line(detail: Detail, as_of: dt.date) -> Line | None:
    """None for what moves no money."""
    if not detail.amount or detail.code == _NON_MONETARY:
        return None
    side = _side(detail.code, detail.line)
    if detail.amount < 0:
        side = "debit" if side == "credit" else "credit"
    reference = detail.customer_reference or detail.bank_reference or None
    return Line(
        side, abs(detail.amount), detail.value_date or as_of, detail.code, reference, detail.text
    )


def _statement(account: Account, as_of: dt.date) -> Statement:
    stated = {summary.code: summary.amount for summary in account.summaries}
    lines = [_line(detail, as_of) for detail in account.details]
    return Statement(
        account_number=account.number,
        currency=account.currency,
        statement_date=as_of,
        opening_balance=stated.get(OPENING_LEDGER),
        closing_balance=stated.get(CLOSING_LEDGER),
        lines=tuple(line for line in lines if line is not None),
    )


def read(raw: bytes) -> list[Statement]:
    """The statements of a file whose controls hold. Errors: StatementError."""
    file = parse(raw)
    check_controls(file)
    for group in file.groups:
        if group.status != "1":
            raise StatementError(
                "group_not_final",
                "the group is a deletion, correction or test, not an update (status 1); settle "
                "with the bank what it replaces.",
                group.line,
            )
    return [_statement(account, group.as_of) for group in file.groups for account in group.accounts]
