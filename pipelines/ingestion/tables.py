"""The tables of the typed landing: columns, and how each is read from events.

`e` is the event as `shapes.column_shape` describes it, `entry` and `entry_no` one of its entries.
Timestamps are naive UTC; money is BIGINT.
"""

from __future__ import annotations

import dataclasses

from ledger_service.contract import events
from ledger_service.contract.schemas import EventType
from pipelines.ingestion.shapes import TIME_FORMAT


@dataclasses.dataclass(frozen=True)
class Table:
    """A typed table. `columns` names per event type what it holds."""

    name: str
    columns: tuple[tuple[str, str], ...]
    """Names and DuckDB types, in order."""
    readers: dict[EventType, dict[str, str]]
    """SQL of each column by event type; a column that is not named is NULL."""
    per_entry: bool = False
    """One row per entry of the transaction instead of one per event."""


def _moment(field: str) -> str:
    return f"strptime(e.{field}, '{TIME_FORMAT}')"


def _same(*names: str) -> dict[str, str]:
    return {name: f"e.{name}" for name in names}


_LEDGER = {"ledger": "e.ledger", "seq": "seq", "recorded_at": _moment("recorded_at")}
_STREAM = {"stream": "e.stream", "seq": "seq", "recorded_at": _moment("recorded_at")}
_JOURNAL_HEAD = (("ledger", "VARCHAR"), ("seq", "BIGINT"), ("recorded_at", "TIMESTAMP"))
_STREAM_HEAD = (("stream", "VARCHAR"), ("seq", "BIGINT"), ("recorded_at", "TIMESTAMP"))


def _texts(*names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, "VARCHAR") for name in names)


_COUNTERPARTY = (
    "counterparty",
    "counterparty_bank",
    "counterparty_country",
    "rail_reference",
    "conductor",
)

# The posting rule by which the amounts were worked out; ratios are text, they fit no number.
_APPLIED = (
    *_texts("rule"),
    ("version", "INTEGER"),
    ("account", "VARCHAR"),
    ("of_amount", "BIGINT"),
    ("first_day", "DATE"),
    ("last_day", "DATE"),
    ("interest", "VARCHAR"),
    ("true_up", "VARCHAR"),
    ("period_start", "DATE"),
    ("accrued", "BIGINT"),
    ("carried", "VARCHAR"),
)

_OF_ENTRY = {
    **{name: name for name in ("ledger", "seq", "entry_no")},
    **{name: f"entry.{name}" for name in ("account", "side", "amount", "currency")},
}

LEDGERS = Table(
    "ledgers",
    (
        *_JOURNAL_HEAD,
        ("currencies", "VARCHAR[]"),
        *_texts("time_zone", "cut_off", "calendar", "chart"),
    ),
    {
        events.LedgerOpened: {
            **_LEDGER,
            **_same("currencies", "time_zone", "cut_off", "calendar", "chart"),
        }
    },
)
ACCOUNTS = Table(
    "accounts",
    (
        *_JOURNAL_HEAD,
        *_texts("event_type", "account", "currency", "account_class", "normal_side"),
        ("custodial", "BOOLEAN"),
        *_texts("gl_code", "owner"),
        ("floor", "BIGINT"),
        ("ceiling", "BIGINT"),
        *_texts("status", "reason"),
    ),
    {
        events.AccountOpened: {
            **_LEDGER,
            **_same("account", "currency", "account_class", "normal_side", "custodial", "gl_code"),
            **_same("owner", "floor", "ceiling"),
            "event_type": "e.type",
            "status": "'open'",
        },
        events.AccountChanged: {
            **_LEDGER,
            **_same("account", "status", "reason"),
            "event_type": "e.type",
        },
    },
)
TRANSACTIONS = Table(
    "transactions",
    (
        *_JOURNAL_HEAD,
        ("effective_at", "TIMESTAMP"),
        ("effective_date", "DATE"),
        ("business_date", "DATE"),
        *_texts("kind", "channel", *_COUNTERPARTY),
        ("metadata", "MAP(VARCHAR, VARCHAR)"),
        ("value_date", "DATE"),
        ("reverses_seq", "BIGINT"),
        *_texts("rate_sell", "rate_buy"),
        ("rate_numerator", "BIGINT"),
        ("rate_denominator", "BIGINT"),
        *((f"applied_{name}", kind) for name, kind in _APPLIED),
        ("corrects_seq", "BIGINT"),
        ("captures_seq", "BIGINT"),
        ("ends_hold", "BOOLEAN"),
        ("imposed", "BOOLEAN"),
        *_texts("batch", "approval", "actor", "request_id"),
        ("entry_count", "INTEGER"),
    ),
    {
        events.TransactionPosted: {
            **_LEDGER,
            "effective_at": _moment("effective_at"),
            **_same("effective_date", "business_date", "kind"),
            # The context leaves out what is at its default.
            "channel": "coalesce(e.context.channel, 'internal')",
            **{name: f"e.context.{name}" for name in _COUNTERPARTY},
            "metadata": "coalesce(e.metadata, map([], []))",
            "value_date": "e.value_date",
            "reverses_seq": "e.reverses",
            **{f"rate_{n}": f"e.rate.{n}" for n in ("sell", "buy", "numerator", "denominator")},
            **{f"applied_{name}": f"e.applied.{name}" for name, _ in _APPLIED},
            "corrects_seq": "e.corrects",
            "captures_seq": "e.captures",
            "ends_hold": "coalesce(e.ends_hold, false)",
            "imposed": "coalesce(e.imposed, false)",
            **_same("batch", "approval", "actor", "request_id"),
            "entry_count": "len(e.entries)",
        }
    },
)
ENTRIES = Table(
    "entries",
    (
        ("ledger", "VARCHAR"),
        ("seq", "BIGINT"),
        ("entry_no", "INTEGER"),
        *_texts("account", "side"),
        ("amount", "BIGINT"),
        ("currency", "VARCHAR"),
    ),
    {events.TransactionPosted: _OF_ENTRY},
    per_entry=True,
)
HOLDS = Table(
    "holds",
    (
        *_JOURNAL_HEAD,
        ("event_type", "VARCHAR"),
        ("hold_seq", "BIGINT"),
        *_texts("kind", "channel"),
        ("expires_at", "TIMESTAMP"),
        *_texts("cause", "reason"),
    ),
    {
        events.HoldPlaced: {
            **_LEDGER,
            "event_type": "e.type",
            "hold_seq": "seq",
            "kind": "e.kind",
            "channel": "coalesce(e.context.channel, 'internal')",
            "expires_at": _moment("expires_at"),
        },
        events.HoldReleased: {
            **_LEDGER,
            "event_type": "e.type",
            "hold_seq": "e.hold",
            **_same("cause", "reason"),
        },
    },
)
HOLD_ENTRIES = Table(
    "hold_entries", ENTRIES.columns, dict.fromkeys(HOLDS.readers, _OF_ENTRY), per_entry=True
)
PERIODS = Table(
    "periods",
    (
        *_JOURNAL_HEAD,
        ("event_type", "VARCHAR"),
        ("day", "DATE"),
        *_texts("reference", "reason", "approval", "tree_root"),
    ),
    {
        events.PeriodSoftClosed: {**_LEDGER, "event_type": "e.type", "day": "e.through"},
        events.PeriodClosed: {
            **_LEDGER,
            "event_type": "e.type",
            "day": "e.through",
            "tree_root": "e.tree_root",
        },
        events.PeriodReopened: {
            **_LEDGER,
            "event_type": "e.type",
            "day": "e.since",
            **_same("reason", "approval"),
        },
        events.DayAttested: {**_LEDGER, "event_type": "e.type", **_same("day", "reference")},
    },
)
CURRENCIES = Table(
    "currencies",
    (*_JOURNAL_HEAD, ("currency", "VARCHAR"), ("exponent", "INTEGER")),
    {events.CurrencyDeclared: {**_LEDGER, **_same("currency", "exponent")}},
)
_OF_RULE = {**_LEDGER, "event_type": "e.type", **_same("rule", "version", "since", "approval")}
RULES = Table(
    "rules",
    (
        *_JOURNAL_HEAD,
        *_texts("event_type", "rule"),
        ("version", "INTEGER"),
        ("since", "DATE"),
        *_texts("kind", "currency", "tiering", "rounding", "day_count", "balances"),
        ("minimum", "BIGINT"),
        ("maximum", "BIGINT"),
        # A rate is a decimal of any length, so it stays text.
        ("tiers", "STRUCT(at_least BIGINT, rate VARCHAR, fixed BIGINT)[]"),
        ("debit", "STRUCT(account VARCHAR, weight BIGINT)[]"),
        ("credit", "STRUCT(account VARCHAR, weight BIGINT)[]"),
        *_texts("approval"),
    ),
    {
        events.RuleDeclared: {
            **_OF_RULE,
            **_same("kind", "currency", "day_count", "minimum", "maximum", "debit", "credit"),
            "tiers": "list_transform(e.tiers, lambda t: {'at_least': coalesce(t.at_least, '0'), "
            "'rate': coalesce(t.rate, '0'), 'fixed': coalesce(t.fixed, '0')})",
            "tiering": "coalesce(e.tiering, 'graduated')",
            "rounding": "coalesce(e.rounding, 'half_even')",
            "balances": "coalesce(e.balances, 'positive')",
        },
        events.RuleWithdrawn: _OF_RULE,
    },
)
PARTIES = Table(
    "parties",
    (
        *_STREAM_HEAD,
        *_texts("party", "kind", "country", "risk_tier"),
        ("version", "INTEGER"),
        ("erased", "BOOLEAN"),
    ),
    {
        events.PartyRegistered: {
            **_STREAM,
            **_same("party", "kind", "country", "risk_tier", "version"),
            "erased": "coalesce(e.erased, false)",
        }
    },
)
STATEMENT_ACCOUNTS = Table(
    "statement_accounts",
    (
        *_STREAM_HEAD,
        *_texts("statement_account", "ledger", "account", "bank", "purpose"),
        ("rounded_half_minor_per_entry", "INTEGER"),
    ),
    {
        events.StatementAccountRegistered: {
            **_STREAM,
            **_same("statement_account", "ledger", "account", "bank", "purpose"),
            "rounded_half_minor_per_entry": "coalesce(e.rounded_half_minor_per_entry, 0)",
        }
    },
)
STATEMENTS = Table(
    "statements",
    (
        *_STREAM_HEAD,
        *_texts("statement", "statement_account", "bank"),
        ("statement_date", "DATE"),
        ("currency", "VARCHAR"),
        ("opening_balance", "BIGINT"),
        ("closing_balance", "BIGINT"),
        ("line_count", "INTEGER"),
        ("format", "VARCHAR"),
    ),
    {
        events.StatementReceived: {
            **_STREAM,
            **_same("statement", "statement_account", "bank", "statement_date", "currency"),
            **_same("opening_balance", "closing_balance", "line_count", "format"),
        }
    },
)
STATEMENT_LINES = Table(
    "statement_lines",
    (
        *_STREAM_HEAD,
        *_texts("statement", "statement_account"),
        ("line_no", "INTEGER"),
        ("statement_date", "DATE"),
        ("value_date", "DATE"),
        ("side", "VARCHAR"),
        ("amount", "BIGINT"),
        *_texts("currency", "reference", "bank_code"),
    ),
    {
        events.StatementLine: {
            **_STREAM,
            **_same("statement", "statement_account", "line_no", "statement_date", "value_date"),
            **_same("side", "amount", "currency", "reference", "bank_code"),
        }
    },
)
TABLES = (
    LEDGERS,
    ACCOUNTS,
    TRANSACTIONS,
    ENTRIES,
    HOLDS,
    HOLD_ENTRIES,
    PERIODS,
    CURRENCIES,
    RULES,
    PARTIES,
    STATEMENT_ACCOUNTS,
    STATEMENTS,
    STATEMENT_LINES,
)
