"""What a caller asks of a ledger: in the tests' plain words, and as the API takes it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Line = tuple[str, int]
"""An account and minor units of USD: a debit is positive, a credit negative."""


Do = Literal[
    "post", "hold", "capture", "void", "reverse", "status", "soft_close", "close", "reopen"
]


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """One command under an idempotency key."""

    key: str
    do: Do
    lines: list[Line] = []
    """To post or to hold."""
    of: int = 0
    """`seq` of the hold to capture or void, of the transaction to reverse."""
    amount: int | None = None
    """How much of it; None: all that is left."""
    ends_hold: bool = True
    expires_at: str | None = None
    effective_at: str | None = None
    imposed: bool = False
    corrects: int = 0
    """`seq` of the transaction whose booking this one corrects."""
    approval: str = ""
    """Of a reversal, a correction, a reopening."""
    reversal: str = ""
    """Id of the request that was approved."""
    day: str = ""
    """The last one of a period to close, the first one to reopen."""
    account: str = ""
    status: str = "open"
    """Of `account` from here on; the key stands in the event as the reason."""
    dry_run: bool = False


def entries_of(lines: list[Line]) -> list[dict[str, str]]:
    """Entries as the API takes them."""
    return [
        {
            "account": account,
            "side": "debit" if amount > 0 else "credit",
            "amount": str(abs(amount)),
            "currency": "USD",
        }
        for account, amount in lines
    ]


def body_of(ask: Ask) -> dict[str, Any]:
    """The body of its request."""
    return {**_content_of(ask), **({"dry_run": True} if ask.dry_run else {})}


def _content_of(ask: Ask) -> dict[str, Any]:
    match ask.do:
        case "status":
            return {"status": ask.status, "reason": ask.key}
        case "soft_close" | "close":
            return {"through": ask.day}
        case "reopen":
            return {"since": ask.day, "reason": "late_invoice", "approval": ask.approval}
    body: dict[str, Any] = {"idempotency_key": ask.key}
    if ask.do in ("post", "hold"):
        kind = {"hold": "card_purchase", "post": "return" if ask.imposed else "transfer"}[ask.do]
        body |= {"kind": kind, "entries": entries_of(ask.lines)}
    if ask.do == "post" and ask.imposed:
        body["imposed"] = True
    if ask.corrects:
        body |= {"corrects": ask.corrects, "approval": ask.approval}
    if ask.do in ("post", "capture") and ask.effective_at is not None:
        body["effective_at"] = ask.effective_at
    if ask.do == "hold" and ask.expires_at is not None:
        body["expires_at"] = ask.expires_at
    if ask.do in ("capture", "reverse") and ask.amount is not None:
        body["amount"] = str(ask.amount)
    if ask.do == "capture":
        body["ends_hold"] = ask.ends_hold
    if ask.do == "void":
        body["reason"] = "cancelled"
    if ask.do == "reverse":
        body |= {"approval": ask.approval, "reason": REVERSAL_REASON, "reversal": ask.reversal}
    return body


REVERSAL_REASON = "duplicate"


def item_of(ask: Ask) -> dict[str, Any]:
    """The same as one of several commands (`commands:batch`)."""
    of = {"hold": ask.of} if ask.do in ("capture", "void") else {}
    return {"do": ask.do, **of, **body_of(ask)}


def place_of(ask: Ask) -> tuple[str, str]:  # noqa: PLR0911 - a table, written as a match
    """Method, and path within the ledger."""
    match ask.do:
        case "post":
            return "POST", "transactions"
        case "hold":
            return "POST", "holds"
        case "capture" | "void":
            return "POST", f"holds/{ask.of}:{ask.do}"
        case "reverse":
            return "POST", f"transactions/{ask.of}:reverse"
        case "status":
            return "PATCH", f"accounts/{ask.account}"
        case "soft_close":
            return "POST", "periods:soft-close"
        case "close" | "reopen":
            return "POST", f"periods:{ask.do}"
