"""What makes a transaction well formed, before any account is looked at (P1)."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Mapping, Sequence
from typing import get_args

from ledger_service.contract.context import Channel, Context
from ledger_service.contract.events import Entry
from ledger_service.contract.identifiers import PARTY, REFERENCE, looks_personal
from ledger_service.contract.money import MAX_POSTING_MINOR
from ledger_service.domain.errors import Refusal, refusal

KINDS = frozenset(
    {
        "opening_balance",
        "deposit",
        "payroll",
        "cash_deposit",
        "cash_withdrawal",
        "transfer",
        "card_purchase",
        "ach_credit",
        "ach_debit",
        "wire_in",
        "wire_out",
        "instant_in",
        "instant_out",
        "check_deposit",
        "settlement",
        "fee",
        "fee_sweep",
        "interest",
        "return",
        "chargeback",
        "bank_fee",
        "adjustment",
        "external_payment",
    }
)
"""What a caller may post; the book adds `reversal`."""
REVERSAL = "reversal"
MAX_ENTRIES = 256
MAX_TEXT = 64
MAX_AHEAD = dt.timedelta(days=1)
"""How far in the future `effective_at` may lie."""

_CHANNELS = frozenset(get_args(Channel))
PLAIN = Context()
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,63}\Z")
_COUNTRY = re.compile(r"[A-Z]{2}\Z")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)\Z")


def check_entries(entries: Sequence[Entry], currencies: Collection[str]) -> Refusal | None:
    """Whether entries are enough, positive, in the ledger's currencies, and balanced in each."""
    if not 2 <= len(entries) <= MAX_ENTRIES:
        code = "too_few_entries" if len(entries) < 2 else "too_many_entries"
        return refusal(code, entries=len(entries))
    sums: dict[str, int] = {}
    unknown: int | None = None
    for number, entry in enumerate(entries):
        text = entry.amount
        # Not by a regular expression: this is on the path of every entry.
        if not text.isdecimal() or not text.isascii() or text[0] == "0" or len(text) > 19:
            return refusal("bad_amount", entry=number)
        amount = int(text)
        if amount > MAX_POSTING_MINOR:
            return refusal("bad_amount", entry=number)
        currency = entry.currency
        if entry.side == "credit":
            amount = -amount
        if currency in sums:
            sums[currency] += amount
        else:
            sums[currency] = amount
            if unknown is None and currency not in currencies:
                unknown = number
    if unknown is not None:
        return refusal("unknown_currency", entry=unknown)
    for currency, difference in sums.items():
        if difference:
            return refusal("unbalanced", currency=currency, debits_minus_credits=str(difference))
    return None


def check_context(context: Context) -> Refusal | None:
    """Whether every field of the context is a token of its form, and none looks personal."""
    if context == PLAIN:
        return None
    tokens = (context.counterparty, context.counterparty_bank)
    country, reference, conductor = (
        context.counterparty_country,
        context.rail_reference,
        context.conductor,
    )
    for name, sound in (
        ("channel", context.channel in _CHANNELS),
        ("counterparty", tokens[0] is None or _TOKEN.match(tokens[0])),
        ("counterparty_bank", tokens[1] is None or _TOKEN.match(tokens[1])),
        ("counterparty_country", country is None or _COUNTRY.match(country)),
        ("rail_reference", reference is None or REFERENCE.match(reference)),
        ("conductor", conductor is None or PARTY.match(conductor)),
    ):
        if not sound:
            return refusal("bad_context", field=name)
    return None


def check_metadata(metadata: Mapping[str, str], declared: Collection[str]) -> Refusal | None:
    """Whether the keys are declared and the values short."""
    if not metadata:
        return None
    for key in sorted(metadata):
        if key not in declared:
            return refusal("undeclared_metadata", declared=sorted(declared))
    for key, value in sorted(metadata.items()):
        if len(value) > MAX_TEXT:
            return refusal("metadata_too_long", key=key)
    return None


def check_personal(context: Context, metadata: Mapping[str, str]) -> Refusal | None:
    """Whether any text that the journal would keep for ever looks like personal data (P10)."""
    if not metadata and context == PLAIN:
        return None
    texts = [
        ("counterparty", context.counterparty),
        ("counterparty_bank", context.counterparty_bank),
        ("rail_reference", context.rail_reference),
        *metadata.items(),
    ]
    for name, text in texts:
        # Nine digits are the least that any of the guarded forms has.
        if text is not None and len(text) > 8 and looks_personal(text):
            return refusal("personal_data_refused", field=name)
    return None


def is_code(text: str) -> bool:
    """Whether `text` is a code that an event may carry: a short token that is not personal."""
    return bool(_TOKEN.match(text)) and not looks_personal(text)


def parse_moment(text: str) -> dt.datetime | None:
    """A moment from RFC 3339 text with a time zone; None where it is none.

    None, too, at the ends of the calendar, where it can't be told in another time zone.
    """
    if not _MOMENT.match(text):
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if dt.MINYEAR < moment.year < dt.MAXYEAR else None
