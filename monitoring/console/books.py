"""What pages ask of the ledgers themselves, through the API."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import HTTPException

from monitoring.console.ledger import Ledger
from monitoring.console.rule_words import Version


class Books(msgspec.Struct, frozen=True):
    """A ledger as the API describes it."""

    ledger: str
    time_zone: str
    exponents: dict[str, int]
    """Decimal places of each currency that it keeps, its own among them."""


def chosen_books(api: Ledger, asked: str | None) -> tuple[Books, list[str]]:
    """The ledger asked for, or the first, and the names of all. Errors: 404 where it is not open."""
    opened = msgspec.convert(api.get("/v1/ledgers")["ledgers"], list[Books])
    if not opened:
        raise HTTPException(404, "No ledger is open yet.")
    names = [books.ledger for books in opened]
    if asked and asked not in names:
        raise HTTPException(
            404, f"Ledger {asked[:40]!r} is not open; there is: {', '.join(names)}."
        )
    return next(books for books in opened if books.ledger == (asked or names[0])), names


def rule_versions(api: Ledger, ledger: str) -> list[Version]:
    """All that was declared of every posting rule, by rule and version."""
    return msgspec.convert(api.get(f"/v1/ledgers/{ledger}/rules")["rules"], list[Version])


def heading_names(api: Ledger, ledger: str) -> dict[str, str]:
    """The names of the general ledger's headings, by code."""
    headings: list[dict[str, Any]] = api.get(f"/v1/ledgers/{ledger}/chart")["headings"]
    return {heading["code"]: heading["name"] for heading in headings}
