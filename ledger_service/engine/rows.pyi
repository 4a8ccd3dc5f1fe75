from ledger_service.domain.account import Account
from ledger_service.engine.copy_format import DaySum, Posting

class Postings(list[Posting]):
    """As a list of postings: of what it has, only what its users need."""

class PostingRow:
    """As `copy_format.PostingRow`."""

    def __init__(self, ledger: str) -> None: ...
    def encode(self, number: int, postings: list[Posting]) -> bytes: ...

def follow(
    row: PostingRow,
    accounts: list[tuple[int, list[Posting]]],
    rows: list[bytes],
    sums: list[DaySum],
) -> None:
    """As `copy_format.follow`."""

def array(numbers: list[int]) -> str:
    """As `copy_format.array`."""

def balance_arrays(accounts: list[Account], expected: list[int]) -> list[str]:
    """As `copy_format.balance_arrays`."""
