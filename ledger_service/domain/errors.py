"""Refusals: every reason for which the book says no, in the order in which it looks for them.

The order is part of the contract: a command that is wrong in several ways is refused for the first
one in this list, always. Each code has a sentence that says what to do.
"""

from __future__ import annotations

from typing import Any

import msgspec

REFUSALS: dict[str, str] = {
    "ledger_not_open": "There is no such ledger; open it first (POST /v1/ledgers).",
    "ledger_exists": "The ledger is open with other properties; choose another name.",
    "idempotency_conflict": "The idempotency key was used for another content; use a new key.",
    # shape
    "bad_ledger_id": "A ledger id is 2 to 31 lower-case letters, digits and _, from a letter on.",
    "bad_currencies": "Name one or more different ISO 4217 currencies.",
    "bad_time_zone": "Name a time zone of the IANA database, e.g. America/New_York.",
    "bad_cut_off": "The cut-off is local wall time HH:MM, e.g. 17:00.",
    "unknown_calendar": "The calendar is us_federal_reserve.",
    "unknown_chart": "The chart of accounts is a known name and version, e.g. us_fintech_fbo/1.",
    "unknown_kind": "The kind is one of the catalogue, e.g. transfer, payroll, ach_credit.",
    "too_few_entries": "A transaction has two or more entries.",
    "too_many_entries": "A transaction has at most 256 entries; split it.",
    "bad_side": "An entry's side is debit or credit.",
    "bad_amount": 'An amount is a string of digits in minor units: "1250" for 12.50 USD.',
    "bad_limits": "Floor and ceiling are minor units as text, the floor not above the ceiling.",
    "unknown_currency": "The ledger does not keep this currency.",
    "unbalanced": "Debits and credits must be equal in each currency; correct the entries.",
    "bad_rate": "A rate names both currencies and a ratio of positive integers, as text.",
    "rate_missing": "Two currencies in one transaction need the rate between them.",
    "rate_not_needed": "A transaction in one currency takes no rate.",
    "too_many_currencies": "A transaction has at most two currencies; link several transactions.",
    "not_through_positions": "What is sold credits our position, what is bought debits the other.",
    "rate_differs": "The amounts differ from the rate by a minor unit or more; correct either.",
    "bad_currency": "A ledger's own currency has 4 to 12 capitals and digits, from a capital on, and "
    "an exponent from 0 to 9.",
    "currency_declared": "The currency was declared with another exponent, which stays.",
    "bad_rule_code": "A rule's code is 2 to 32 lower-case letters, digits and _, from a letter on.",
    "bad_rule": "The rule's terms do not fit together; see problem.",
    "bad_status": "A status is open, debits_frozen, credits_frozen, frozen or closed.",
    # text that would stay for ever
    "bad_account_id": "An account id is a kind and one to six segments, e.g. customer:42:wallet.",
    "bad_owner": "The owner is a party id (pty_...), given by POST /v1/parties.",
    "bad_context": "A context holds a known channel, short tokens and a country code; see /docs.",
    "undeclared_metadata": "Metadata takes only the keys that the chart of accounts declares.",
    "metadata_too_long": "A metadata value has at most 64 characters.",
    "bad_reason": "A reason is a code of at most 64 letters, digits and _ . / -.",
    "personal_data_refused": "This looks like an SSN, card or account number; use an opaque id.",
    # time
    "bad_effective_at": "effective_at is RFC 3339 with a time zone, e.g. 2026-07-01T12:00:00Z.",
    "effective_in_future": "effective_at is at most one day in the future.",
    "bad_expiry": "expires_at is RFC 3339 with a time zone, lies ahead, and before the year 9999.",
    "bad_day": "A day is written YYYY-MM-DD, and the first of several is not after the last.",
    "day_not_over": "Only a day that is over in the ledger's time zone can be closed or attested.",
    "nothing_to_close": "No account was opened yet, so there are no books to close.",
    "period_closed": "The period is closed; let it count from the first open day.",
    "day_attested": "The day was attested and takes no more entries; use the first open day.",
    "period_soft_closed": "Only an approved correction may still count in this period.",
    "period_not_closed": "Nothing from this day on is closed or attested.",
    "projection_behind": "The history has not followed the journal that far; try again shortly.",
    "closing_check_failed": "The books contradict themselves at `place`, so nothing was closed: run "
    "tally verify --full, mend what it names (docs/operations.md), and close again.",
    # posting rules
    "unknown_rule": "No rule of this code was declared; see GET /v1/ledgers/{ledger}/rules.",
    "not_of_this_kind": "A fee is charged; interest is accrued and capitalized.",
    "rule_not_in_force": "The rule is not in force on this day: it begins later, or was withdrawn.",
    "already_accrued": "Interest up to this day was accrued; a day is accrued once.",
    "nothing_due": "Nothing is due that makes a whole minor unit; what there is counts later.",
    "amount_too_large": "What the rule asks is beyond 2^63-1 minor units; mend the rule.",
    # accounts
    "account_not_in_chart": "No pattern of the chart of accounts fits this id; see the chart.",
    "account_exists": "The account is open with other properties; choose another id.",
    "unknown_account": "Open the account first (POST /v1/ledgers/{ledger}/accounts).",
    "currency_differs": "The account is kept in another currency than the entry.",
    "account_closed": "The account is closed; use another one.",
    "account_frozen": "The account is frozen for this side; compliance or operations can thaw it.",
    "account_not_empty": "Only an account with balance zero can be closed; move the money first.",
    "account_has_holds": "Something is pending on the account; capture or void its holds first.",
    # corrections and holds
    "unknown_corrected": "No transaction has this seq to correct; look it up by its key.",
    "unknown_hold": "No hold has this seq; look it up by its idempotency key.",
    "hold_ended": "Nothing is left of the hold: it was captured, voided or has expired.",
    "hold_expired": "The hold's time is over; ask for a new one.",
    "hold_exceeded": "Less than this amount is left of the hold.",
    # reversals
    "unknown_transaction": "No transaction has this seq; look it up by its idempotency key.",
    "is_a_reversal": "A reversal is not reversed; post a new transaction.",
    "is_interest": "Interest is not reversed, its days would stay accrued; post an adjustment.",
    "partial_needs_one_currency": "Only what is in one currency can be taken in part.",
    "reversal_exceeds": "Less than this amount is left to reverse.",
    # limits
    "floor_passed": "The account's balance would fall below its floor.",
    "ceiling_passed": "The account's balance would rise above its ceiling.",
    "event_too_large": "The event would exceed 60 KiB; split the transaction.",
    # around the book: the writer's own
    "undecidable": "Deciding on this failed inside, and nothing was posted; name the request id when you "
    "report it.",
    "linked_batch_refused": "Another item of the linked batch was refused; nothing was posted.",
    "not_by_itself": "What a second person approves is sent by itself, never among other commands.",
    "approval_invalid": "The approval is not granted for exactly this, or was consumed already.",
    "ledger_stopped": "Verification found a violation and stopped this ledger; operations must "
    "mend and resume it (docs/operations.md). Nothing was posted; reading goes on.",
    "deadline_passed": "The deadline passed before the command was begun; nothing was posted.",
    "busy": "The writer's queue is full; try again after the time given.",
    "batch_too_large": "At most 10,000 commands in one batch; send several.",
}
"""Code and what to do, in precedence."""


class Refusal(msgspec.Struct, frozen=True):
    """The book's no: a code of REFUSALS and the facts behind it. Nothing has happened."""

    code: str
    detail: dict[str, Any] = {}


def refusal(code: str, **detail: Any) -> Refusal:
    """A Refusal with a listed code. Errors: KeyError for an unlisted one."""
    return Refusal(code, {"message": REFUSALS[code], **detail})
