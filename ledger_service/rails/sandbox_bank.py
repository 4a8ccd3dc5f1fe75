"""The sandbox bank's own books: accounts, movements, closed days and the statements it issued.

It is the outside world: it keeps what it was told happened on its accounts, in its own SQLite file,
and knows nothing of our ledger. What it states of a day is made when the day is closed, and never
changes afterwards.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from ledger_service.contract.money import MAX_POSTING_MINOR, exponent
from ledger_service.rails.statements import bai2_writer, camt053
from ledger_service.rails.statements.bank_codes import bank_code
from ledger_service.rails.statements.model import Format, Line, Statement

NAME = "sandbox_bank"
_SCHEMA = """
create table if not exists account (
  number text primary key, currency text not null, format text not null, delivery text not null);
create table if not exists movement (
  id text primary key, number text not null references account, day text not null,
  side text not null, amount integer not null, reference text not null, channel text not null,
  words text not null);
create index if not exists movement_of_day on movement (number, day);
create table if not exists balance (
  number text not null references account, day text not null, amount integer not null,
  primary key (number, day));
create index if not exists balance_of_day on balance (day);
create table if not exists delivery (name text primary key, closed_through text not null);
create table if not exists statement (
  id integer primary key autoincrement, delivery text not null, day text not null,
  format text not null, sha256 text not null, content blob not null, unique (delivery, day));
create table if not exists nonce (nonce text primary key, seen_at integer not null);
"""

Amount = msgspec.Meta(pattern=r"^[1-9][0-9]{0,18}$")
Day = msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")
Name = msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$")


class BankError(ValueError):
    """What the bank does not do. `code` is stable, the message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class NewAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An account, and how its statements are sent: one `delivery` is one file a day."""

    account_number: str
    currency: str
    format: Format
    delivery: str


class Movement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Money in (credit) or out of an account. `id` makes telling it twice harmless."""

    id: str
    account_number: str
    day: str
    side: Literal["credit", "debit"]
    amount: str
    """Minor units, digits only."""
    reference: str
    channel: Literal["ach", "wire", "instant", "card", "cash", "check"] = "ach"
    words: str = ""
    """Free text as it will stand on the statement."""


class StatedBalance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The end-of-day balance of an account whose movements the bank does not state."""

    account_number: str
    day: str
    balance: str
    """Signed minor units."""


class CloseDays(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Close every day of a delivery that is not closed yet, to `through`."""

    delivery: str
    through: str


def _day(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise BankError("bad_day", "A day is YYYY-MM-DD and exists.") from None


class Books:
    """The books in one SQLite file; one thread at a time. All methods raise `BankError`."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute("pragma synchronous = full")
        self._connection.execute("pragma foreign_keys = on")
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("begin immediate")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("rollback")
                raise
            self._connection.execute("commit")

    def use_nonce(self, nonce: str, window_seconds: int) -> None:
        """Remember a request's nonce for the window. Errors: `replayed`."""
        now = int(time.time())
        with self._transaction() as books:
            books.execute("delete from nonce where seen_at < ?", (now - 2 * window_seconds,))
            if not books.execute(
                "insert or ignore into nonce values (?, ?)", (nonce, now)
            ).rowcount:
                raise BankError("replayed", "This request was made before.")

    def open_accounts(self, accounts: Sequence[NewAccount]) -> None:
        """Open accounts; those that are open alike stay. Errors: `account_differs`."""
        with self._transaction() as books:
            for account in accounts:
                exponent(account.currency)
                wanted = (
                    account.account_number,
                    account.currency,
                    account.format,
                    account.delivery,
                )
                books.execute("insert or ignore into account values (?, ?, ?, ?)", wanted)
                found = books.execute(
                    "select * from account where number = ?", (account.account_number,)
                ).fetchone()
                if found != wanted:
                    raise BankError(
                        "account_differs",
                        "The account is open with another currency, format or delivery.",
                    )

    def record(self, movements: Sequence[Movement]) -> int:
        """Record movements; gives how many were new. All or nothing.

        Errors: `unknown_account`, `movement_differs` (same id, other content), `day_closed`.
        """
        rows = [_movement_row(movement) for movement in movements]
        with self._transaction() as books:
            self._refuse_unknown(books, {row[1] for row in rows})
            before = books.total_changes
            books.executemany(
                "insert or ignore into movement values (?, ?, ?, ?, ?, ?, ?, ?)", rows
            )
            new = books.total_changes - before
            if new < len(rows):
                self._refuse_different(books, rows)
            if new:
                self._refuse_closed(books, [(row[1], row[2]) for row in rows], new)
            return new

    def state(self, balances: Sequence[StatedBalance]) -> int:
        """Record stated balances; gives how many were new. Errors as `record`."""
        rows = [
            (one.account_number, _day(one.day).isoformat(), _signed(one.balance))
            for one in balances
        ]
        with self._transaction() as books:
            self._refuse_unknown(books, {row[0] for row in rows})
            before = books.total_changes
            books.executemany("insert or ignore into balance values (?, ?, ?)", rows)
            new = books.total_changes - before
            for row in rows if new < len(rows) else []:
                found = books.execute(
                    "select amount from balance where number = ? and day = ?", row[:2]
                ).fetchone()
                if found[0] != row[2]:
                    raise BankError("balance_differs", "That day's balance was stated differently.")
            if new:
                self._refuse_closed(books, [row[:2] for row in rows], new)
            return new

    @staticmethod
    def _refuse_unknown(books: sqlite3.Connection, numbers: set[str]) -> None:
        for number in numbers:
            if not books.execute("select 1 from account where number = ?", (number,)).fetchone():
                raise BankError("unknown_account", "Open the account first: POST /accounts.")

    @staticmethod
    def _refuse_different(books: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        for row in rows:
            if books.execute("select * from movement where id = ?", (row[0],)).fetchone() != row:
                raise BankError("movement_differs", "A movement of that id was told differently.")

    @staticmethod
    def _refuse_closed(
        books: sqlite3.Connection, told: Sequence[tuple[str, str]], new: int
    ) -> None:
        """Refuse what is new on a closed day; `told` may hold old ones, which are no news."""
        late = 0
        for number, day in set(told):
            closed = books.execute(
                "select 1 from account join delivery on delivery.name = account.delivery "
                "where account.number = ? and delivery.closed_through >= ?",
                (number, day),
            ).fetchone()
            late += sum(1 for one in told if one == (number, day)) if closed else 0
        if late > len(told) - new:
            raise BankError("day_closed", "The day is closed; its statement has been issued.")

    def close_days(self, request: CloseDays, created: dt.datetime) -> int:
        """Issue the statements of every day up to `through`; gives how many files were made."""
        through = _day(request.through)
        with self._transaction() as books:
            accounts = books.execute(
                "select number, currency, format from account where delivery = ? order by number",
                (request.delivery,),
            ).fetchall()
            if not accounts:
                raise BankError("unknown_delivery", "No account is sent in this delivery.")
            day = self._first_open_day(books, request.delivery)
            made = 0
            while day is not None and day <= through:
                made += self._issue(books, request.delivery, day, accounts, created)
                day += dt.timedelta(days=1)
            books.execute(
                "insert into delivery values (?, ?) on conflict (name) do update set "
                "closed_through = max(closed_through, excluded.closed_through)",
                (request.delivery, through.isoformat()),
            )
            return made

    @staticmethod
    def _first_open_day(books: sqlite3.Connection, delivery: str) -> dt.date | None:
        closed = books.execute(
            "select closed_through from delivery where name = ?", (delivery,)
        ).fetchone()
        if closed:
            return dt.date.fromisoformat(closed[0]) + dt.timedelta(days=1)
        first = books.execute(
            "select min(day) from (select day, number from movement union all "
            "select day, number from balance) join account using (number) where delivery = ?",
            (delivery,),
        ).fetchone()[0]
        return dt.date.fromisoformat(first) if first else None

    def _issue(
        self,
        books: sqlite3.Connection,
        delivery: str,
        day: dt.date,
        accounts: Sequence[tuple[str, str, Format]],
        created: dt.datetime,
    ) -> int:
        stated = dict(
            books.execute(
                "select number, amount from balance join account using (number) "
                "where delivery = ? and day = ?",
                (delivery, day.isoformat()),
            ).fetchall()
        )
        without_lines = books.execute(
            "select 1 from balance join account using (number) where delivery = ? limit 1",
            (delivery,),
        ).fetchone()
        format_ = accounts[0][2]
        statements = [
            Statement(number, currency, day, None, stated[number], ())
            if number in stated
            else _statement(books, number, currency, format_, day)
            for number, currency, _ in accounts
            if number in stated or not without_lines
        ]
        if not statements:
            return 0
        content = _write(statements, format_, delivery, day, created)
        books.execute(
            "insert into statement (delivery, day, format, sha256, content) values (?, ?, ?, ?, ?)",
            (delivery, day.isoformat(), format_, hashlib.sha256(content).hexdigest(), content),
        )
        return 1

    def statements(self, after: int, limit: int) -> list[dict[str, Any]]:
        """Statement files issued after the one of id `after`, oldest first."""
        with self._lock:
            rows = self._connection.execute(
                "select id, delivery, day, format, sha256, length(content) from statement "
                "where id > ? order by id limit ?",
                (after, limit),
            ).fetchall()
        names = ("id", "delivery", "day", "format", "sha256", "bytes")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def statement(self, number: int) -> tuple[Format, bytes]:
        """A statement file as it was issued. Errors: `unknown_statement`."""
        with self._lock:
            row = self._connection.execute(
                "select format, content from statement where id = ?", (number,)
            ).fetchone()
        if row is None:
            raise BankError(
                "unknown_statement", "There is no statement of that id; see GET /statements."
            )
        return row


def _signed(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        raise BankError("bad_amount", "A balance is digits of minor units, with - or no sign.")
    return int(text)


def _movement_row(movement: Movement) -> tuple[Any, ...]:
    amount = _signed(movement.amount)
    if not 0 < amount <= MAX_POSTING_MINOR:
        raise BankError("bad_amount", "A movement's amount is positive minor units.")
    if any(sign in movement.reference for sign in ",/\r\n") or not movement.reference:
        raise BankError("bad_reference", "A reference holds no comma, slash or line break.")
    return (
        *(movement.id, movement.account_number, _day(movement.day).isoformat(), movement.side),
        *(amount, movement.reference, movement.channel, movement.words),
    )


def _statement(
    books: sqlite3.Connection, number: str, currency: str, format_: Format, day: dt.date
) -> Statement:
    opening = books.execute(
        "select coalesce(sum(case side when 'credit' then amount else -amount end), 0) "
        "from movement where number = ? and day < ?",
        (number, day.isoformat()),
    ).fetchone()[0]
    lines = tuple(
        Line(side, amount, day, bank_code(format_, channel, side), reference, words)
        for side, amount, reference, channel, words in books.execute(
            "select side, amount, reference, channel, words from movement "
            "where number = ? and day = ? order by rowid",
            (number, day.isoformat()),
        )
    )
    change = sum(line.amount if line.side == "credit" else -line.amount for line in lines)
    return Statement(number, currency, day, opening, opening + change, lines)


def _write(
    statements: Sequence[Statement],
    format_: Format,
    delivery: str,
    day: dt.date,
    created: dt.datetime,
) -> bytes:
    if format_ == "bai2":
        return bai2_writer.write(statements, sender="SANDBOX", receiver=delivery, created=created)
    return camt053.write(statements, message_id=f"{delivery}-{day}", created=created)
