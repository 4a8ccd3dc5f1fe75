"""Opening ledgers and accounts: what must hold, and the events that follow."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from zoneinfo import ZoneInfo

import msgspec

from ledger_service.contract.events import (
    AccountOpened,
    CurrencyDeclared,
    JournalEvent,
    LedgerOpened,
)
from ledger_service.contract.identifiers import LEDGER, PARTY, IdentifierError, check_account
from ledger_service.contract.money import EXPONENTS
from ledger_service.domain.account import limits_are_sound
from ledger_service.domain.calendar import CALENDARS, BusinessClock
from ledger_service.domain.chart import Chart
from ledger_service.domain.commands import OpenAccount, OpenLedger
from ledger_service.domain.errors import Refusal, refusal

_CUT_OFF = re.compile(r"([01]\d|2[0-3]):[0-5]\d\Z")


class Terms(msgspec.Struct, frozen=True):
    """What an open ledger's rules rest on."""

    opened: LedgerOpened
    chart: Chart
    clock: BusinessClock
    currencies: Mapping[str, int]
    """Exponent of each currency that the ledger keeps."""
    declared: Mapping[str, CurrencyDeclared] = {}
    """Those of its own."""


def terms_of(opened: LedgerOpened, charts: Mapping[str, Chart]) -> Terms:
    """The terms of a ledger from its first event. Errors: KeyError for a chart not known here."""
    hour, minute = opened.cut_off.split(":")
    clock = BusinessClock(ZoneInfo(opened.time_zone), dt.time(int(hour), int(minute)))
    currencies = {currency: EXPONENTS[currency] for currency in opened.currencies}
    return Terms(opened, charts[opened.chart], clock, currencies)


def with_currency(terms: Terms, event: CurrencyDeclared) -> Terms:
    """The terms once a currency is declared."""
    return msgspec.structs.replace(
        terms,
        currencies={**terms.currencies, event.currency: event.exponent},
        declared={**terms.declared, event.currency: event},
    )


def shortfall_account(opened: LedgerOpened, currency: str) -> str:
    """The receivable for what imposed transactions take from customers below their floor."""
    plain = currency == opened.currencies[0]
    return "receivable:shortfall" if plain else f"receivable:shortfall_{currency.lower()}"


def _is_time_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        return False
    return "/" in name or name == "UTC"


def open_ledger(
    command: OpenLedger, ledger: str, charts: Mapping[str, Chart], recorded_at: str
) -> list[JournalEvent] | Refusal:
    """The ledger's first events: its opening and its shortfall receivables."""
    currencies = command.currencies
    for sound, code in (
        (command.ledger == ledger and bool(LEDGER.match(ledger)), "bad_ledger_id"),
        (
            bool(currencies)
            and len(set(currencies)) == len(currencies)
            and all(currency in EXPONENTS for currency in currencies),
            "bad_currencies",
        ),
        (_is_time_zone(command.time_zone), "bad_time_zone"),
        (bool(_CUT_OFF.match(command.cut_off)), "bad_cut_off"),
        (command.calendar in CALENDARS, "unknown_calendar"),
        (command.chart in charts, "unknown_chart"),
    ):
        if not sound:
            return refusal(code)
    opened = LedgerOpened(
        ledger=ledger,
        seq=1,
        recorded_at=recorded_at,
        actor=command.actor,
        request_id=command.request_id,
        currencies=currencies,
        time_zone=command.time_zone,
        cut_off=command.cut_off,
        calendar=command.calendar,
        chart=command.chart,
    )
    terms = terms_of(opened, charts)
    found: list[JournalEvent] = [opened]
    for number, currency in enumerate(currencies, 2):
        name = shortfall_account(opened, currency)
        account = OpenAccount(name, currency, command.actor, request_id=command.request_id)
        event = open_account(account, terms, number, recorded_at)
        if isinstance(event, Refusal):
            return event
        found.append(event)
    return found


def open_account(
    command: OpenAccount, terms: Terms, seq: int, recorded_at: str
) -> AccountOpened | Refusal:
    """The event that opens an account not open yet."""
    problem = _check_account(command, terms)
    if problem:
        return problem
    rule = terms.chart.rule(command.account)
    if rule is None:
        return refusal("account_not_in_chart", chart=terms.chart.title)
    return AccountOpened(
        ledger=terms.opened.ledger,
        seq=seq,
        recorded_at=recorded_at,
        actor=command.actor,
        request_id=command.request_id,
        account=command.account,
        currency=command.currency,
        account_class=rule.account_class,
        normal_side=rule.normal_side,
        custodial=rule.custodial,
        gl_code=rule.gl_code,
        owner=command.owner,
        floor=command.floor,
        ceiling=command.ceiling,
    )


def _check_account(command: OpenAccount, terms: Terms) -> Refusal | None:
    if not limits_are_sound(command.floor, command.ceiling):
        return refusal("bad_limits")
    if command.currency not in terms.currencies:
        return refusal("unknown_currency", currencies=sorted(terms.currencies))
    problem: str | None = None
    try:
        check_account(command.account)
    except IdentifierError as error:
        problem = error.code
    if problem == "bad_account_id":
        return refusal("bad_account_id")
    if command.owner is not None and not PARTY.match(command.owner):
        return refusal("bad_owner")
    return refusal("personal_data_refused", field="account") if problem else None
