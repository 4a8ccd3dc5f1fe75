"""Refusals of this room. `code` is stable, the message says what to do."""

from __future__ import annotations


class SecurityRefusal(Exception):
    """Who may not, and why. `code` is one of the API's problem codes."""

    def __init__(self, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        """Seconds after which another try makes sense."""
