"""What is compiled (`plain.pyx`, `lane.pyx`, `rows.pyx`), or written in Python where no C compiler was."""

from collections.abc import Sequence
from itertools import chain

import msgspec

from ledger_service.domain import memory
from ledger_service.domain.book import Book
from ledger_service.domain.commands import Command, decode_command

try:
    from ledger_service.engine.lane import Lane, lacks_of
    from ledger_service.engine.plain import Commands
    from ledger_service.engine.rows import PostingRow, Postings, array, balance_arrays, follow
except ImportError:
    from ledger_service.engine.copy_format import Posting, PostingRow, array, balance_arrays, follow

    Postings = list[Posting]
    Lane = Commands = None
    """Without it the book decides everything."""

    def lacks_of(book: Book, asked: list[Sequence[Command]]) -> memory.Lacks:
        """As `memory.lacks_of`, of the commands of several requests."""
        return memory.lacks_of(book, chain.from_iterable(asked))


def commands_of(raws: list[msgspec.Raw]) -> Sequence[Command]:
    """The commands of a request. Errors: msgspec.ValidationError, msgspec.DecodeError."""
    return Commands(raws) if Commands else [decode_command(raw) for raw in raws]


def are_plain(commands: Sequence[Command]) -> bool:
    """Whether all are known to be plain postings, which stand with any others in a commit."""
    return Commands is not None and isinstance(commands, Commands) and commands.are_plain


__all__ = [
    "Lane",
    "PostingRow",
    "Postings",
    "are_plain",
    "array",
    "balance_arrays",
    "commands_of",
    "follow",
    "lacks_of",
]
