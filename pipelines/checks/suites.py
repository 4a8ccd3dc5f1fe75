"""What Great Expectations expects of the marts: plain data, so that nobody imports it for nothing.

A window is bounded: the newest rows of what grows, the whole of what does not. Money columns are
read as integers; DECIMAL columns are cast, because pandas would take them as floats.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ledger_service.contract.money import EXPONENTS, MAX_EXPONENT, MAX_POSTING_MINOR, OWN_CURRENCY
from ledger_service.contract.snapshots import SnapshotName

WINDOW_ROWS = 20_000
_CURRENCY = f"^({'|'.join(sorted(EXPONENTS))}|{OWN_CURRENCY})$"

Expectation = tuple[str, dict[str, Any]]
"""Class of `great_expectations.expectations`, and its arguments."""


@dataclasses.dataclass(frozen=True)
class Suite:
    """Expectations of one mart. `window` is SQL over the warehouse."""

    mart: str
    snapshot: SnapshotName
    window: str
    expectations: tuple[Expectation, ...]

    @property
    def check(self) -> str:
        """How the check is called in manifests and in Dagster."""
        return f"expectations_{self.mart}"


def _never_null(*columns: str) -> list[Expectation]:
    return [("ExpectColumnValuesToNotBeNull", {"column": column}) for column in columns]


def _one_of(column: str, values: list[str]) -> Expectation:
    return ("ExpectColumnValuesToBeInSet", {"column": column, "value_set": values})


def _between(column: str, low: int, high: int | None = None) -> Expectation:
    return (
        "ExpectColumnValuesToBeBetween",
        {"column": column, "min_value": low, "max_value": high},
    )


def _unique(*columns: str) -> Expectation:
    return ("ExpectCompoundColumnsToBeUnique", {"column_list": list(columns)})


SUITES = (
    Suite(
        "entries",
        "general",
        "select ledger, seq, entry_no, account, side, amount, currency, exponent, kind, channel, "
        "reconciliation_status from marts.entries "
        f"order by last_seq desc, ledger, entry_no limit {WINDOW_ROWS}",
        (
            *_never_null("ledger", "seq", "account", "side", "amount", "currency", "exponent"),
            *_never_null("kind"),
            _unique("ledger", "seq", "entry_no"),
            _one_of("side", ["debit", "credit"]),
            ("ExpectColumnValuesToMatchRegex", {"column": "currency", "regex": _CURRENCY}),
            _one_of("channel", ["ach", "wire", "instant", "card", "cash", "check", "internal"]),
            _between("amount", 1, MAX_POSTING_MINOR),
            _between("exponent", 0, MAX_EXPONENT),
        ),
    ),
    Suite(
        "account_balances_current",
        "general",
        "select ledger, account, currency, account_class, normal_side, custodial, entry_count, "
        "cast(debits as bigint) as debits, cast(credits as bigint) as credits "
        f"from marts.account_balances_current order by last_seq desc, account limit {WINDOW_ROWS}",
        (
            *_never_null("ledger", "account", "currency", "debits", "credits"),
            _unique("ledger", "account"),
            _one_of("account_class", ["asset", "liability", "equity", "income", "expense"]),
            _one_of("normal_side", ["debit", "credit"]),
            _between("debits", 0),
            _between("credits", 0),
            _between("entry_count", 0),
        ),
    ),
    Suite(
        "holds",
        "general",
        "select ledger, seq, kind, channel, currency, exponent, state, capture_count, "
        "cast(placed as bigint) as placed, cast(pending as bigint) as pending "
        f"from marts.holds order by last_seq desc, ledger limit {WINDOW_ROWS}",
        (
            *_never_null("ledger", "seq", "kind", "currency", "placed", "pending"),
            _unique("ledger", "seq"),
            _one_of("state", ["open", "captured", "voided", "expired"]),
            _one_of("channel", ["ach", "wire", "instant", "card", "cash", "check", "internal"]),
            ("ExpectColumnValuesToMatchRegex", {"column": "currency", "regex": _CURRENCY}),
            _between("placed", 1),
            _between("pending", 0),
            _between("capture_count", 0),
        ),
    ),
    Suite(
        "fee_revenue_daily",
        "general",
        "select ledger, revenue_date, currency, exponent, kind, rule, transaction_count, "
        "cast(charged as bigint) as charged, cast(taken_back as bigint) as taken_back "
        f"from marts.fee_revenue_daily order by last_seq desc, ledger limit {WINDOW_ROWS}",
        (
            *_never_null("ledger", "revenue_date", "currency", "kind", "rule"),
            _unique("ledger", "revenue_date", "currency", "kind", "rule"),
            ("ExpectColumnValuesToMatchRegex", {"column": "currency", "regex": _CURRENCY}),
            _between("charged", 0),
            _between("taken_back", 0),
            _between("transaction_count", 1),
        ),
    ),
    Suite(
        "reconciliation_days",
        "general",
        "select statement_account, statement_date, ledger, status, open_breaks, currency "
        f"from marts.reconciliation_days order by statement_date desc limit {WINDOW_ROWS}",
        (
            *_never_null("statement_account", "statement_date", "ledger", "status"),
            _unique("statement_account", "statement_date"),
            _one_of("status", ["reconciled", "explained", "unexplained"]),
            _between("open_breaks", 0),
        ),
    ),
    Suite(
        "alert_candidates",
        "restricted",
        "select candidate_id, rule, ledger, subject, subject_kind, why, entry_count "
        f"from marts.alert_candidates order by last_seq desc limit {WINDOW_ROWS}",
        (
            *_never_null("candidate_id", "rule", "ledger", "subject", "why"),
            ("ExpectColumnValuesToBeUnique", {"column": "candidate_id"}),
            _one_of("rule", ["ctr_aggregation", "structuring", "rapid_movement", "fan_in"]),
            _one_of("subject_kind", ["account", "party"]),
            _between("entry_count", 1),
        ),
    ),
)
