"""What a source's columns mean: one YAML file per kind of source, versioned with the code.

A mapping says everything that a reader of the source would have to know: which column is what, what
a step of time is, who is outside, what the kinds of movement are called here, and whether amounts
may be rounded. Columns that it does not name are never read.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec
import yaml

from ledger_service.contract.context import Channel
from ledger_service.contract.identifiers import IdentifierError, check_account, check_ledger
from ledger_service.contract.money import MoneyError, Rounding, exponent
from ledger_service.domain.transaction import KINDS
from ledger_service.loading.errors import LoadError

ANY_KIND = "*"


class _Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a mapping: no field but the listed."""


class Columns(_Text, frozen=True):
    """Names of the source's columns."""

    time: str
    amount: str
    origin: str
    destination: str
    kind: str | None = None


class Time(_Text, frozen=True):
    """What the time column says.

    `day` and `hour` count from `base` (a date: its midnight in the ledger's time zone); `date` is
    text that starts with YYYY-MM-DD; `timestamp` is ISO 8601, local where it has no offset. Where
    only the day is known, the transaction counts at noon.
    """

    unit: Literal["day", "hour", "date", "timestamp"]
    base: dt.date | None = None


class Persons(_Text, frozen=True):
    """Columns of the accounts file that say whose an account is; they go to the vault only."""

    name: str
    country: str
    tax_id: str | None = None
    birth_date: str | None = None


class AccountsFile(_Text, frozen=True):
    """A CSV beside the loaded file, with a row for each account."""

    file: str
    id: str
    opening_balance: str | None = None
    """Paid in from outside before the first row, on the first row's day."""
    persons: Persons | None = None


class Accounts(_Text, frozen=True):
    """How an account of the source is called here."""

    template: str
    """Account id with {id}, e.g. customer:{id}:main."""
    naming: Literal["as_is", "keyed"] = "as_is"
    """keyed: the source's ids look like account numbers; a keyed hash stands for each."""
    listed_in: AccountsFile | None = None


class Outside(_Text, frozen=True):
    """Regular expressions of ids that are the outside world: paying in, and being paid."""

    pays_in: str
    is_paid: str


class Meaning(_Text, frozen=True):
    """What a movement is called here."""

    kind: str
    channel: Channel


class Movement(_Text, frozen=True, rename={"into": "in"}):
    """A kind of the source by direction; a direction that is not given is refused.

    `only_origin`: the other side is no account here (cash, an agent, another bank), and the money
    goes into the origin or out of it.
    """

    only_origin: Literal["in", "out"] | None = None
    into: Meaning | None = None
    out: Meaning | None = None
    internal: Meaning | None = None


class StatedBalances(_Text, frozen=True):
    """Columns that state an account's balance after a row.

    The last row of an account's day states its balance at the end of the day: inside a day the
    order of rows need not be the order of execution.
    """

    origin: str
    destination: str
    except_kinds: list[str] = []
    """Source kinds whose rows state no usable balance."""


class Mapping(_Text, frozen=True):
    """A whole mapping."""

    name: str
    version: int
    ledger: str
    """The ledger it is loaded into, unless the command says another."""
    currency: str
    columns: Columns
    time: Time
    accounts: Accounts
    kinds: dict[str, Movement]
    """By the text of the kind column; "*" is any other."""
    outside: Outside | None = None
    rounding: Rounding = "reject"
    time_zone: str = "America/New_York"
    stated_balances: StatedBalances | None = None
    ignored: list[str] = []
    """Columns left out on purpose: labels, and what a ledger has no use for."""

    def used_columns(self) -> list[str]:
        """The only columns that are read."""
        names = [
            self.columns.time,
            self.columns.amount,
            self.columns.origin,
            self.columns.destination,
        ]
        names += [self.columns.kind] if self.columns.kind else []
        if self.stated_balances:
            names += [self.stated_balances.origin, self.stated_balances.destination]
        return names


def _problems_of_kinds(mapping: Mapping) -> Iterator[str]:
    for name, movement in mapping.kinds.items():
        meanings = [
            meaning for meaning in (movement.into, movement.out, movement.internal) if meaning
        ]
        for meaning in meanings:
            if meaning.kind not in KINDS:
                yield f"kinds.{name}: {meaning.kind!r} is no kind of the catalogue"
        if not meanings:
            yield f"kinds.{name} gives no direction: in, out or internal"
    if mapping.columns.kind is None and ANY_KIND not in mapping.kinds:
        yield 'without a kind column, kinds needs "*"'


def _problems(mapping: Mapping) -> Iterator[str]:
    try:
        check_ledger(mapping.ledger)
        exponent(mapping.currency)
        check_account(mapping.accounts.template.format(id="1"))
    except (IdentifierError, MoneyError) as error:
        yield str(error)
    except (KeyError, IndexError, ValueError):
        yield "accounts.template takes {id} and nothing else in braces"
    if "{id}" not in mapping.accounts.template:
        yield "accounts.template lacks {id}: all accounts would be one"
    if mapping.time.unit in ("day", "hour") and mapping.time.base is None:
        yield f"time.unit {mapping.time.unit} needs time.base, the date of 0"
    try:
        ZoneInfo(mapping.time_zone)
    except (KeyError, ValueError, OSError):
        yield "time_zone is a name of the IANA database, e.g. America/New_York"
    for pattern in (mapping.outside.pays_in, mapping.outside.is_paid) if mapping.outside else ():
        try:
            re.compile(pattern)
        except re.error as error:
            yield f"outside is a regular expression: {error}"
    yield from _problems_of_kinds(mapping)


def _names() -> list[str]:
    folder = resources.files("ledger_service.loading") / "mappings"
    return sorted(path.name.removesuffix(".yaml") for path in folder.iterdir())


def _text(name: str) -> bytes:
    """A mapping of the package by its name, or a file by its path. Errors: `unknown_mapping`."""
    if name in _names():
        return (
            resources.files("ledger_service.loading") / "mappings" / f"{name}.yaml"
        ).read_bytes()
    path = Path(name)
    if path.is_file():
        return path.read_bytes()
    raise LoadError(
        "unknown_mapping",
        f"There is no mapping {name!r}: name one of {', '.join(_names())}, or give the path of a "
        "YAML file.",
    )


def load_mapping(name: str) -> tuple[Mapping, str]:
    """A mapping and the SHA-256 of its text. Errors: `unknown_mapping`, `bad_mapping`."""
    text = _text(name)
    try:
        mapping = msgspec.convert(yaml.safe_load(text), Mapping)
    except (msgspec.ValidationError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise LoadError("bad_mapping", f"The mapping {name} can't be used: {why}.") from None
    problems = list(_problems(mapping))
    if problems:
        raise LoadError("bad_mapping", f"The mapping {name} can't be used: {'; '.join(problems)}.")
    return mapping, hashlib.sha256(text).hexdigest()
