"""What of a ledger is in memory: what commands need first, and what may be forgotten again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import msgspec

from ledger_service.contract.events import RuleDeclared
from ledger_service.domain.account import Account
from ledger_service.domain.commands import (
    CaptureHold,
    ChangeAccount,
    Command,
    ExpireHold,
    Keyed,
    OpenAccount,
    PlaceHold,
    PostTransaction,
    ReverseTransaction,
    VoidHold,
)
from ledger_service.domain.opening import shortfall_account
from ledger_service.domain.period import LAST_DAY, is_day
from ledger_service.domain.period_commands import ClosePeriod
from ledger_service.domain.rule import accounts_of
from ledger_service.domain.rule_commands import (
    AccrueInterest,
    CapitalizeInterest,
    ChargeFee,
    DeclareCurrency,
    DeclareRule,
    OfRule,
)
from ledger_service.domain.transaction import parse_moment

if TYPE_CHECKING:
    from ledger_service.domain.book import Book

_Name = TypeVar("_Name")
_Known = TypeVar("_Known")


class Lacks(msgspec.Struct):
    """What commands need that is not in memory. Absence in the database is an answer too."""

    accounts: set[str] = msgspec.field(default_factory=set[str])
    digests: set[bytes] = msgspec.field(default_factory=set[bytes])
    transactions: set[int] = msgspec.field(default_factory=set[int])
    holds: set[int] = msgspec.field(default_factory=set[int])
    closings: set[str] = msgspec.field(default_factory=set[str])
    """Last days of the periods to be closed: for each, the `Books` as they stand now."""
    accruals: set[tuple[str, str]] = msgspec.field(default_factory=set[tuple[str, str]])
    """Rules and accounts whose interest is asked for: for each, the `Accruing` as it stands now."""
    earliest: str = LAST_DAY
    """Where interest is asked for, a day before which none of the commands posts anything."""


def lacks_of(book: Book, commands: Iterable[Command]) -> Lacks:
    """What must be loaded before these commands can be decided."""
    lacks = Lacks()
    for command in commands:
        if isinstance(command, Keyed):
            if command.digest not in book.keys:
                lacks.digests.add(command.digest)
            _lacks_of_money(book, command, lacks)
        elif isinstance(command, ExpireHold):
            _lacks_of_hold(book, command.hold, lacks)
        elif isinstance(command, ClosePeriod):
            if is_day(command.through) and command.through > book.periods.closed:
                lacks.closings.add(command.through)
        elif isinstance(command, OpenAccount | ChangeAccount):
            lacks.accounts |= absent([command.account], book)
        elif isinstance(command, DeclareRule):
            lacks.accounts |= {part.account for part in (*command.debit, *command.credit)}
        elif isinstance(command, DeclareCurrency) and book.terms is not None:
            lacks.accounts.add(shortfall_account(book.terms.opened, command.currency))
    return lacks


def earliest_day(commands: Iterable[Command]) -> str:
    """A day before which none of the commands posts anything: what they backdate comes after it."""
    days = [LAST_DAY]
    for command in commands:
        if isinstance(command, AccrueInterest) and is_day(command.through):
            days.append(command.through)
        elif isinstance(command, PostTransaction | CaptureHold | ChargeFee | CapitalizeInterest):
            moment = parse_moment(command.effective_at or "")
            if moment is not None:
                # in whichever time zone: of two the days differ by two at most
                days.append((moment.date() - dt.timedelta(days=2)).isoformat())
    return min(days)


def _lacks_of_money(book: Book, command: Keyed, lacks: Lacks) -> None:
    if isinstance(command, PostTransaction | PlaceHold):
        for entry in command.entries:
            if entry.account not in book.accounts:
                lacks.accounts.add(entry.account)
    if isinstance(command, PostTransaction):
        if command.imposed and book.terms is not None:
            opened = book.terms.opened
            names = {shortfall_account(opened, currency) for currency in book.terms.currencies}
            lacks.accounts |= absent(names, book)
        if command.corrects is not None and command.corrects not in book.originals:
            lacks.transactions.add(command.corrects)
    elif isinstance(command, ReverseTransaction):
        source = book.originals.get(command.reverses)
        if source is None:
            lacks.transactions.add(command.reverses)
        else:
            lacks.accounts |= absent((leg[0] for leg in source.left), book)
    elif isinstance(command, CaptureHold | VoidHold):
        _lacks_of_hold(book, command.hold, lacks)
    elif isinstance(command, OfRule):
        _lacks_of_rule(book, command, lacks)


def _lacks_of_rule(book: Book, command: OfRule, lacks: Lacks) -> None:
    names, is_interest = {command.account}, False
    for version in book.rules.get(command.rule, []):
        if isinstance(version, RuleDeclared):
            names |= set(accounts_of(version))
            is_interest = version.kind == "interest"
    lacks.accounts |= absent(names, book)
    if is_interest and not isinstance(command, ChargeFee):
        lacks.accruals.add((command.rule, command.account))


def _lacks_of_hold(book: Book, seq: int, lacks: Lacks) -> None:
    held = book.holds.get(seq)
    if held is None:
        lacks.holds.add(seq)
    else:
        lacks.accounts |= absent((leg[0] for leg in held.left), book)


def absent(names: Iterable[str], book: Book) -> set[str]:
    """Those of the names whose accounts are not in memory. (A set less the keys of a dictionary
    would look at every key.)"""
    return {name for name in names if name not in book.accounts}


def forget(book: Book, *, accounts: int, keys: int, originals: int, committed: int) -> None:
    """Keep about so many of each, the oldest go first; nothing that is not committed.

    Of holds as many are kept as of `originals`, of keys up to a quarter more.
    """
    _forget_accounts(book, accounts, committed)
    _forget_keys(book, keys, committed)
    for number, _ in _beyond(book.originals, originals):
        del book.originals[number]
    for number, held in _beyond(book.holds, originals):
        if held.version > committed:
            break
        del book.holds[number]


def _forget_keys(book: Book, limit: int, committed: int) -> None:
    """By the lump, when a quarter is too many: each walk passes all that was taken out before it."""
    beyond = len(book.keys) - limit
    if beyond > limit // 4:
        oldest = islice(book.keys.items(), beyond)
        for digest in [digest for digest, (seq, _) in oldest if seq <= committed]:
            del book.keys[digest]


def _forget_accounts(book: Book, limit: int, committed: int) -> None:
    """Of the accounts that came first, those in use get a second chance: they go to the end, once.

    An order of use would have to be kept at each entry, for what is needed at few commits.
    """
    in_use_since = committed - limit // 2  # few more can have been moved since than are kept
    for name, account in _beyond(book.accounts, limit):
        if _last_use(account) > in_use_since:
            book.accounts[name] = book.accounts.pop(name)
        else:
            del book.accounts[name]
    for name, account in _beyond(book.accounts, limit):
        if _last_use(account) <= committed:
            del book.accounts[name]


def _last_use(account: Account) -> int:
    return max(account.version, account.status_seq)


def _beyond(known: dict[_Name, _Known], limit: int) -> list[tuple[_Name, _Known]]:
    """What came first and is beyond the limit, by one walk: each look for the first of a dictionary
    passes all that were taken out before it."""
    return [*islice(known.items(), max(0, len(known) - limit))]
