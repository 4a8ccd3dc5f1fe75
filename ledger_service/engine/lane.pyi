import datetime as dt
from collections.abc import Sequence

from ledger_service.domain.book import Book
from ledger_service.domain.commands import Command
from ledger_service.domain.memory import Lacks
from ledger_service.engine.batch import Batch
from ledger_service.engine.deciding import Draft

class Lane:
    """Carries out plain postings on a book, at one moment, into one batch."""

    def __init__(self, book: Book, batch: Batch, now: dt.datetime) -> None: ...
    def take(
        self,
        commands: Sequence[Command],
        start: int,
        until: int,
        with_events: bool,
        drafts: list[Draft],
    ) -> int:
        """Carry out commands from `start` on while they are plain, none past `until`; their verdicts
        come to `drafts`. Gives the place of the first that is left."""

def lacks_of(book: Book, asked: list[Sequence[Command]]) -> Lacks:
    """As `memory.lacks_of` of all commands of several requests."""
