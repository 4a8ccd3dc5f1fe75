"""Why a load, or one row of it, is not done."""

from __future__ import annotations


class LoadError(Exception):
    """The whole load is refused; nothing of it was posted unless the message says so.

    `code` is stable, the message says what to do.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class RowRejectedError(Exception):
    """One row goes to quarantine. `reason` is stable."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason
        self.detail = detail
