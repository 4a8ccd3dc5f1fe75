"""Names of ledgers, accounts and parties, and the guard that keeps personal data out of them (P10).

A name that a caller chooses ends up in the journal, which is kept for ever, and in every copy of it.
So whatever looks like a social security, card or bank account number is refused where it comes in:
afterwards nobody could take it out again.
"""

from __future__ import annotations

import re
import secrets

from ledger_service.contract.topics import STREAMS

LEDGER = re.compile(rf"(?!(?:{'|'.join(STREAMS)})\Z)[a-z][a-z0-9_]{{1,30}}\Z")
"""A ledger's name, part of its topic's name: `simulated`, `us_program_1`; never that of a stream,
beside which it stands wherever positions are kept."""

ACCOUNT = re.compile(r"[a-z][a-z0-9_]*(:[A-Za-z0-9_.-]{1,64}){1,6}\Z")
"""An account's id: lower-case kind, then segments: `customer:42:wallet`, `bank:fbo`."""
ACCOUNT_MAX_LENGTH = 128

PARTY = re.compile(r"pty_[0-9a-hjkmnp-tv-z]{26}\Z")
"""An opaque party id, random (ULID alphabet), with no meaning of its own."""

REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ./_-]{1,63}\Z")
"""A rail's or partner's reference, as printed on its statements."""

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_THREE_DIGITS = re.compile(r"\d{3}")
_LONG_NUMBER = re.compile(r"\d{9,}")
_SSN = re.compile(r"(?<!\d)\d{3}[- .]\d{2}[- .]\d{4}(?!\d)")
_GROUPED_CARD = re.compile(r"(?<!\d)(\d{4}[- ]){3}\d{1,7}(?!\d)")


class IdentifierError(ValueError):
    """A name that can't be used. `code` is stable, the message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def looks_personal(text: str) -> bool:
    """Whether `text` holds what looks like an SSN, a card number or a bank account number.

    That is: nine or more digits in a row, 123-45-6789, or a card number in groups. UUIDs are exempt.
    """
    if _THREE_DIGITS.search(text) is None:
        return False  # each of the forms has as many in a row, and most texts have not
    rest = _UUID.sub("", text)
    return bool(_LONG_NUMBER.search(rest) or _SSN.search(rest) or _GROUPED_CARD.search(rest))


def refuse_personal(text: str, what: str) -> str:
    """`text` itself. Errors: `personal_data_refused`; the text is never part of the message."""
    if looks_personal(text):
        raise IdentifierError(
            "personal_data_refused",
            f"The {what} holds nine or more digits in a row or the form of an SSN or card number. "
            "Such numbers belong in the party vault (POST /v1/parties); use an opaque id here.",
        )
    return text


def check_ledger(text: str) -> str:
    """`text` itself. Errors: `bad_ledger_id`."""
    if not LEDGER.match(text):
        raise IdentifierError(
            "bad_ledger_id",
            "A ledger id is 2 to 31 lower-case letters, digits and _, starting with a letter, and "
            f"none of {', '.join(STREAMS)}.",
        )
    return text


def check_account(text: str) -> str:
    """`text` itself. Errors: `bad_account_id`, `personal_data_refused`."""
    if len(text) > ACCOUNT_MAX_LENGTH or not ACCOUNT.match(text):
        raise IdentifierError(
            "bad_account_id",
            "An account id is a kind and one to six segments, e.g. customer:42:wallet (at most 128 "
            "characters: letters, digits, _ . -).",
        )
    return refuse_personal(text, "account id")


_ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def random_id(prefix: str) -> str:
    """A new opaque id, `pty_` + 26 random characters (130 bits); never one that looks personal."""
    while True:
        name = f"{prefix}_" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(26))
        if not looks_personal(name):
            return name
