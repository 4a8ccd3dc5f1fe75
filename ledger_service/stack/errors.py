"""What can go wrong with the stack, by name."""

from __future__ import annotations


class StackError(RuntimeError):
    """A part can't be started. `code` is stable, the message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
