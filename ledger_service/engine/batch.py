"""One commit in the making: the rows of every table, gathered from events as they are decided.

Two kinds of rows. Those of every transaction (journal, keys, posting lists) are made as bytes of
COPY's binary format. All others are tuples in `records`, by table: to add a projection, append its
rows there and name the table in `store.RECORD_TABLES`.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ledger_service.contract.events import (
    AccountChanged,
    AccountOpened,
    HoldPlaced,
    HoldReleased,
    JournalEvent,
    LedgerOpened,
    TransactionPosted,
    event_type,
)
from ledger_service.domain.account import parse_limit
from ledger_service.domain.book import Book
from ledger_service.domain.closing import day_of
from ledger_service.engine import copy_format
from ledger_service.engine.copy_format import bigint, binary
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
        self.journal: list[bytes] = []
        """Parts of rows, as are `keys`: joined they are the rows."""
        self.keys: list[bytes] = []
        self.records: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
        """Rows of other tables, by table."""
        self.changed: list[tuple[str, str, int]] = []
        self.approval: tuple[str, str, int] | None = None
        """Id, digest and `seq` of the command that consumes it, which is committed alone."""
        self._versions: dict[str, int] = {}
        """Of the accounts moved, before this commit."""
        self._holds: dict[int, bool] = {}
        """Holds that are new here, and those that others placed, by `seq`."""
        self._postings: dict[str, tuple[list[int], list[int], list[int], list[int]]] = {}
        """By account: `seq`, number of the entry, signed amount, day."""
        self._time_text, self._time = "", b""
        self._type_and_time: dict[type[JournalEvent], bytes] = {}
        self._days: dict[str, int] = {}
        ledger = copy_format.text(book.ledger)
        self._journal_row = copy_format.columns(6) + ledger
        self._key_row = copy_format.columns(4)
        self._ledger_column = ledger

    def add(
        self,
        event: JournalEvent,
        raw: bytes,
        key: tuple[bytes, bytes] | None,
        versions: Mapping[str, int] | None = None,
    ) -> None:
        """Take in the next event. `versions`: of its accounts before it, if it is applied already."""
        hashed = leaf_hash(raw)
        seq = bigint(event.seq)
        self.journal += (
            self._journal_row,
            seq,
            self._type_and_time_of(event),
            binary(raw),
            binary(hashed),
        )
        for tile in self._tree.append(hashed):
            self.records["tile"].append(
                (self.ledger, tile.level, tile.index, tile.hashes, tile.root)
            )
        self.last_seq = event.seq
        if key is not None:
            self.keys += (self._key_row, binary(key[0]), self._ledger_column, seq, binary(key[1]))
        if isinstance(event, TransactionPosted):
            self._post(event, versions)
        elif isinstance(event, HoldPlaced | HoldReleased):
            self._touch(event, versions)
            if isinstance(event, HoldPlaced):
                self._holds[event.seq] = True
            else:
                self._holds.setdefault(event.hold, False)
        elif isinstance(event, AccountOpened):
            self._open(event)
        elif isinstance(event, AccountChanged):
            self.changed.append((event.account, event.status, event.seq))
        elif not isinstance(event, LedgerOpened):
            day = dt.date.fromisoformat(day_of(event))
            self.records["period"].append((self.ledger, event.seq, event_type(event), day))

    def _touch(self, event: JournalEvent, versions: Mapping[str, int] | None) -> None:
        """Take down the versions of accounts on which an event changes what is pending."""
        accounts, known = self._book.accounts, self._versions
        for name in self._book.touched(event):
            if name not in known:
                known[name] = versions[name] if versions else accounts[name].version

    def _type_and_time_of(self, event: JournalEvent) -> bytes:
        """Two columns that are the same for most events of a batch."""
        if event.recorded_at != self._time_text:
            self._time_text = event.recorded_at
            self.recorded_at = dt.datetime.fromisoformat(event.recorded_at)
            self._time = copy_format.moment(self.recorded_at)
            self._type_and_time = {}
        found = self._type_and_time.get(type(event))
        if found is None:
            found = copy_format.text(event_type(event)) + self._time
            self._type_and_time[type(event)] = found
        return found

    def _post(self, event: TransactionPosted, versions: Mapping[str, int] | None) -> None:
        day = self._days.get(event.effective_date)
        if day is None:
            day = copy_format.day_number(dt.date.fromisoformat(event.effective_date))
            self._days[event.effective_date] = day
        postings, seq = self._postings, event.seq
        for number, entry in enumerate(event.entries):
            name = entry.account
            columns = postings.get(name)
            if columns is None:
                columns = postings[name] = ([], [], [], [])
                known = versions[name] if versions else self._book.accounts[name].version
                self._versions.setdefault(name, known)
            amount = int(entry.amount)
            columns[0].append(seq)
            columns[1].append(number)
            columns[2].append(amount if entry.side == "debit" else -amount)
            columns[3].append(day)
        if event.reverses is not None:
            self.records["reversal"].append((self.ledger, event.reverses, event.seq))
        if event.captures is not None:
            self._touch(event, versions)
            self._holds.setdefault(event.captures, False)
            self.records["capture"].append((self.ledger, event.captures, event.seq))

    def _open(self, event: AccountOpened) -> None:
        limits = [parse_limit(text) for text in (event.floor, event.ceiling)]
        floor, ceiling = (None if limit is None else Decimal(limit) for limit in limits)
        self.records["account"].append(
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
        self.records["balance"].append((self.ledger, event.seq, 0, 0, 0, 0, 0))

    def posting_rows(self) -> list[bytes]:
        """One row per account moved: its entries in this commit."""
        accounts = self._book.accounts
        row = copy_format.PostingRow(self.ledger)
        return [
            row.encode(accounts[name].number, *columns) for name, columns in self._postings.items()
        ]

    def balance_columns(self) -> list[list[int]]:
        """Account numbers, expected versions, new versions; debits, credits, pending debits and
        pending credits.

        Must be called before the next command is applied: balances are taken as they are.
        """
        accounts = self._book.accounts
        moved = [accounts[name] for name in self._versions]
        return [
            [account.number for account in moved],
            list(self._versions.values()),
            [account.version for account in moved],
            [account.debits for account in moved],
            [account.credits for account in moved],
            [account.pending_debits for account in moved],
            [account.pending_credits for account in moved],
        ]

    def hold_rows(self) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """Rows of new holds, and of those that changed, as they stand; taken as balances are."""
        accounts, new, changed = self._book.accounts, [], []
        for seq, is_new in self._holds.items():
            held = self._book.holds[seq]
            legs = [accounts[leg[0]].number for leg in held.left]
            left = [held.left[leg] if leg[1] == "debit" else -held.left[leg] for leg in held.left]
            row = (self.ledger, seq, held.state, held.version, held.expires_at, legs, left)
            (new if is_new else changed).append(row)
        return new, changed

    def root(self) -> bytes:
        """Root of the tree after this batch; must be taken before the next batch grows it."""
        return self._tree.root()
