"""What of a ledger stays in memory: what is in use, and whatever is not committed."""

from __future__ import annotations

from ledger_service.domain import memory
from ledger_service.domain.book import Book
from tests.ledger_book import carry_out, open_book, posting

NAMES = [f"customer:{number}:wallet" for number in range(10)]


def forget(book: Book, accounts: int, committed: int) -> list[str]:
    memory.forget(book, accounts=accounts, keys=2, originals=2, committed=committed)
    return [name for name in NAMES if name in book.accounts]


def book_in_use(*pairs: tuple[int, int]) -> Book:
    book = open_book(*NAMES)
    for key, (debited, credited) in enumerate(pairs):
        carry_out(book, posting(str(key), (NAMES[debited], 5), (NAMES[credited], -5)))
    return book


def test_accounts_not_in_use_go_first() -> None:
    book = book_in_use((0, 1), (2, 3))
    kept = forget(book, accounts=5, committed=book.seq)
    assert {NAMES[0], NAMES[1], NAMES[2], NAMES[3]} <= set(kept)
    assert len(book.accounts) == 5


def test_no_more_are_kept_even_where_all_are_in_use() -> None:
    book = book_in_use(*[(number, number + 1) for number in range(9)])
    forget(book, accounts=4, committed=book.seq)
    assert len(book.accounts) == 4


def test_what_is_not_committed_stays() -> None:
    book = book_in_use((0, 1), (2, 3))
    kept = forget(book, accounts=0, committed=book.seq - 1)
    assert kept == [NAMES[2], NAMES[3]]
    assert [seq for seq, _ in book.keys.values()] == [book.seq - 1, book.seq]
    assert forget(book, accounts=0, committed=book.seq) == []


def test_keys_and_originals_go_in_the_order_in_which_they_came() -> None:
    book = book_in_use((0, 1), (2, 3), (4, 5))
    last = book.seq
    forget(book, accounts=100, committed=last)
    assert [seq for seq, _ in book.keys.values()] == [last - 1, last]
    assert list(book.originals) == [last - 1, last]


def test_keys_go_by_the_lump_and_the_oldest_first() -> None:
    book = open_book()
    for seq in range(1, 13):
        book.keys[bytes([seq])] = seq, b""
    memory.forget(book, accounts=9, keys=10, originals=9, committed=12)
    assert len(book.keys) == 12
    book.keys[bytes([13])] = 13, b""
    memory.forget(book, accounts=9, keys=10, originals=9, committed=2)
    assert [seq for seq, _ in book.keys.values()] == [*range(3, 14)]
    memory.forget(book, accounts=9, keys=8, originals=9, committed=13)
    assert [seq for seq, _ in book.keys.values()] == [*range(6, 14)]
