"""What is compiled (`lane.pyx`, `rows.pyx`) where a C compiler was there, and written in Python where none was."""

try:
    from ledger_service.engine.lane import Lane, lacks_of
    from ledger_service.engine.rows import PostingRow, balance_arrays, follow
except ImportError:
    from ledger_service.domain.memory import lacks_of
    from ledger_service.engine.copy_format import PostingRow, balance_arrays, follow

    Lane = None
    """Without it the book decides everything."""

__all__ = ["Lane", "PostingRow", "balance_arrays", "follow", "lacks_of"]
