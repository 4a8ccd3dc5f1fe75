"""Which format a file is in, by its first bytes, and its statements."""

from __future__ import annotations

from ledger_service.rails.statements import bai2, camt053
from ledger_service.rails.statements.model import Format, Statement, StatementError

MAX_FILE_BYTES = 64 * 1024 * 1024


def read(raw: bytes) -> tuple[Format, list[Statement]]:
    """Errors: StatementError, with `unknown_format` for what is neither BAI2 nor XML."""
    if len(raw) > MAX_FILE_BYTES:
        raise StatementError(
            "file_too_large", "A statement file may be 64 MiB; ask the bank to split it."
        )
    start = raw[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"<"):
        return "camt.053", camt053.read(raw)
    if start.startswith(b"01,"):
        return "bai2", bai2.read(raw)
    raise StatementError(
        "unknown_format",
        "The file is neither BAI2 (starts with 01,) nor camt.053 (XML); see the bank's manual.",
    )
