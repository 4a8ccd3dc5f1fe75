"""What an approval is an approval *of*: the exact content, and its digest (P12).

The maker's request, the checker's decision and the command that executes each compute the digest
from the facts they themselves hold. So an approval of one thing can't be spent on another: whoever
changes an amount on the way arrives at another digest, and the approval does not fit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from ledger_service.domain.rule_commands import DeclareRule, WithdrawRule

Fact = str | int | None | Sequence[Mapping[str, str | int]]
Content = Mapping[str, Fact]
"""The facts that a person approves, `kind` among them; amounts are strings of minor units."""


def approval_digest(content: Content) -> str:
    """SHA-256, in hex, over the content as JSON with sorted keys, no blanks, ASCII only."""
    canonical = json.dumps(dict(content), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def reversal_content(
    *, ledger: str, transaction: int, amount: str | None, reason: str, reversal: str
) -> dict[str, str | int | None]:
    """What is approved when a reversal is.

    `transaction` is the `seq` of the original, `amount` minor units as text or None for all that is
    left, `reason` a code of the reversal policy, `reversal` the id of the request: it makes each
    approval its own.
    """
    return {
        "kind": "reversal",
        "ledger": ledger,
        "transaction": transaction,
        "amount": amount,
        "reason": reason,
        "reversal": reversal,
    }


def correction_content(
    *, ledger: str, corrects: int, kind: str, effective_at: str, entries: str, content: str
) -> dict[str, str | int | None]:
    """What is approved when a correction is.

    `corrects` is the `seq` of the transaction whose booking is corrected; `entries` says in words
    what will be booked; `content` is the hash, in hex, of all that will be posted (context and
    metadata too).
    """
    return {
        "kind": "correction",
        "ledger": ledger,
        "corrects": corrects,
        "transaction_kind": kind,
        "effective_at": effective_at,
        "entries": entries,
        "content": content,
    }


def reopening_content(*, ledger: str, since: str, reason: str) -> dict[str, str | int | None]:
    """What is approved when a period is reopened from the day `since` on."""
    return {"kind": "reopening", "ledger": ledger, "since": since, "reason": reason}


def declaration_content(ledger: str, command: DeclareRule) -> Content:
    """What is approved when a posting rule is declared: all its terms, those at their default too."""
    return {
        "kind": "rule_declaration",
        "ledger": ledger,
        "rule": command.rule,
        "since": command.since,
        "rule_kind": command.kind,
        "currency": command.currency,
        "tiers": [
            {"at_least": tier.at_least, "rate": tier.rate, "fixed": tier.fixed}
            for tier in command.tiers
        ],
        "tiering": command.tiering,
        "minimum": command.minimum,
        "maximum": command.maximum,
        "rounding": command.rounding,
        "day_count": command.day_count,
        "balances": command.balances,
        "debit": [{"account": part.account, "weight": part.weight} for part in command.debit],
        "credit": [{"account": part.account, "weight": part.weight} for part in command.credit],
    }


def withdrawal_content(ledger: str, command: WithdrawRule) -> Content:
    """What is approved when a posting rule is withdrawn from the day `since` on."""
    return {
        "kind": "rule_withdrawal",
        "ledger": ledger,
        "rule": command.rule,
        "since": command.since,
    }
