"""Refusals of the vault. `code` is stable; the message says what to do and nothing personal."""

from __future__ import annotations


class PartyRefusal(Exception):
    """Why the vault does not do it; `facts` are ids and dates for the caller."""

    def __init__(self, code: str, message: str, **facts: str) -> None:
        super().__init__(message)
        self.code = code
        self.facts = facts
