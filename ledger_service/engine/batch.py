"""One commit in the making: the rows of every table, gathered from events as they are decided."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

from ledger_service.contract.events import (
    AccountChanged,
    AccountOpened,
    JournalEvent,
    TransactionPosted,
    event_type,
)
from ledger_service.domain.account import parse_limit
from ledger_service.domain.book import Book
from ledger_service.engine.merkle import Tree, leaf_hash


class Batch:
    """Rows for one commit of one ledger. `first_seq` is the head's `seq` before it."""

    def __init__(self, book: Book, tree: Tree) -> None:
        self._book = book
        self._tree = tree
        self.ledger = book.ledger
        self.first_seq = book.seq
        self.last_seq = book.seq
        self.recorded_at: dt.datetime | None = None
        self.journal: list[tuple[Any, ...]] = []
        self.keys: list[tuple[Any, ...]] = []
        self.opened: list[tuple[Any, ...]] = []
        self.changed: list[tuple[str, str, int]] = []
        self.tiles: list[tuple[Any, ...]] = []
        self.reversals: list[tuple[str, int, int]] = []
        self.approval: tuple[str, str, int] | None = None
        """Id, digest and `seq` of the command that consumes it, which is committed alone."""
        self._versions: dict[str, int] = {}
        self._postings: dict[str, tuple[list[int], list[int], list[int], list[dt.date]]] = {}
        self._time_text = ""
        self._days: dict[str, dt.date] = {}

    def add(
        self,
        event: JournalEvent,
        raw: bytes,
        key: tuple[bytes, bytes] | None,
        versions: dict[str, int],
    ) -> None:
        """Take in an event that is applied to the book. `versions`: of its accounts, before."""
        if event.recorded_at != self._time_text:
            self._time_text = event.recorded_at
            self.recorded_at = dt.datetime.fromisoformat(event.recorded_at)
        hashed = leaf_hash(raw)
        self.journal.append(
            (self.ledger, event.seq, event_type(event), self.recorded_at, raw, hashed)
        )
        for tile in self._tree.append(hashed):
            self.tiles.append((self.ledger, tile.level, tile.index, tile.hashes, tile.root))
        self.last_seq = event.seq
        if isinstance(event, TransactionPosted):
            if key is not None:
                self.keys.append((key[0], self.ledger, event.seq, key[1]))
            self._post(event, versions)
        elif isinstance(event, AccountOpened):
            self._open(event)
        elif isinstance(event, AccountChanged):
            self.changed.append((event.account, event.status, event.seq))

    def _post(self, event: TransactionPosted, versions: dict[str, int]) -> None:
        day = self._days.get(event.effective_date)
        if day is None:
            day = dt.date.fromisoformat(event.effective_date)
            self._days[event.effective_date] = day
        postings, known = self._postings, self._versions
        for name, version in versions.items():
            if name not in known:
                known[name] = version
                postings[name] = ([], [], [], [])
        for number, entry in enumerate(event.entries):
            seqs, numbers, amounts, days = postings[entry.account]
            seqs.append(event.seq)
            numbers.append(number)
            amounts.append(int(entry.amount) if entry.side == "debit" else -int(entry.amount))
            days.append(day)
        if event.reverses is not None:
            self.reversals.append((self.ledger, event.reverses, event.seq))

    def _open(self, event: AccountOpened) -> None:
        limits = [parse_limit(text) for text in (event.floor, event.ceiling)]
        floor, ceiling = (None if limit is None else Decimal(limit) for limit in limits)
        self.opened.append(
            (
                self.ledger,
                event.account,
                event.seq,
                event.currency,
                event.account_class,
                event.normal_side,
                event.custodial,
                event.gl_code,
                event.owner,
                floor,
                ceiling,
                "open",
                event.seq,
            )
        )

    def posting_rows(self) -> list[tuple[Any, ...]]:
        """One row per account moved: its entries in this commit."""
        accounts = self._book.accounts
        return [
            (self.ledger, accounts[name].number, columns[0][-1], *columns)
            for name, columns in self._postings.items()
        ]

    def balance_columns(self) -> list[list[Any]]:
        """Account numbers, expected versions, new versions, debits and credits (as text).

        Must be called before the next command is applied: balances are taken as they are.
        """
        accounts = self._book.accounts
        numbers: list[int] = []
        expected: list[int] = []
        new: list[int] = []
        debits: list[str] = []
        credits_: list[str] = []
        for name, version in self._versions.items():
            account = accounts[name]
            numbers.append(account.number)
            expected.append(version)
            new.append(account.version)
            debits.append(str(account.debits))
            credits_.append(str(account.credits))
        return [numbers, expected, new, debits, credits_]

    def root(self) -> bytes:
        """Root of the tree after this batch; must be taken before the next batch grows it."""
        return self._tree.root()
