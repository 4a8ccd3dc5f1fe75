"""One commit in the making: the rows of every table, gathered from events as they are decided.

What is of every transaction is kept in columns, as one statement takes them (`ledger.commit_batch`).
All other rows of the commit are tuples in `records`, by table: to add a projection, append its rows
there and name the table in `store.RECORD_TABLES`. What follows after the commit is gathered too, so
that the projector has it without reading the journal.
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
from ledger_service.domain.declaring import DeclarationEvent, name_of
from ledger_service.engine import copy_format, fast
from ledger_service.engine.copy_format import Posting
from ledger_service.engine.merkle import Tree, leaf_hash


class Batch:
    """Rows for one commit of one ledger. `first_seq` is the head's `seq` before it."""

    def __init__(self, book: Book, tree: Tree) -> None:
        self._book = book
        self._tree = tree
        self.ledger = book.ledger
        self.first_seq = book.seq
        self.last_seq = book.seq
        self.recorded_at = ""
        """When all its events are recorded: a commit is one moment."""
        self.types: list[str] = []
        """Of each event, as `raws` and `leaf_hashes`."""
        self.raws: list[bytes] = []
        self.leaf_hashes: list[bytes] = []
        self.digests: list[bytes] = []
        """Of each idempotency key, as `key_seqs` and `request_hashes`."""
        self.key_seqs: list[int] = []
        self.request_hashes: list[bytes] = []
        self.records: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
        """Rows of other tables, by table."""
        self.changed: list[tuple[str, str, int]] = []
        self.approval: tuple[str, str, int] | None = None
        """Id, digest and `seq` of the command that consumes it, which is committed alone."""
        self.postings: dict[int, list[Posting]] = {}
        """By number of the account."""
        self.transactions: list[bytes] = []
        """Rows of the index of transactions, as `copy_format.TransactionRow` makes them; ..."""
        self.sorts: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        """... their `seq`, by kind and channel; ..."""
        self.value_dated: list[tuple[str, dt.datetime, int]] = []
        """... rows of those that count for another moment than that at which they are recorded; ..."""
        self.transaction_row = copy_format.TransactionRow(book.ledger)
        self.metadata: list[tuple[str, str, str, int]] = []
        """... and of what is declared of each."""
        self.versions: dict[str, int] = {}
        """Of the accounts moved, before this commit."""
        self._holds: dict[int, bool] = {}
        """Holds that are new here, and those that others placed, by `seq`."""

    def add(
        self,
        event: JournalEvent,
        raw: bytes,
        key: tuple[bytes, bytes] | None,
        versions: Mapping[str, int] | None = None,
    ) -> None:
        """Take in the next event. `versions`: of its accounts before it, if it is applied already."""
        self.types.append(event_type(event))
        self.raws.append(raw)
        self.leaf_hashes.append(leaf_hash(raw))
        self.last_seq, self.recorded_at = event.seq, event.recorded_at
        if key is not None:
            self.digests.append(key[0])
            self.key_seqs.append(event.seq)
            self.request_hashes.append(key[1])
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
        elif isinstance(event, DeclarationEvent):
            row = (self.ledger, event.seq, event_type(event), name_of(event))
            self.records["declaration"].append(row)
        elif not isinstance(event, LedgerOpened):
            day = dt.date.fromisoformat(day_of(event))
            self.records["period"].append((self.ledger, event.seq, event_type(event), day))

    def _touch(self, event: JournalEvent, versions: Mapping[str, int] | None) -> None:
        """Take down the versions of accounts on which an event changes what is pending."""
        accounts, known = self._book.accounts, self.versions
        for name in self._book.touched(event):
            if name not in known:
                known[name] = versions[name] if versions else accounts[name].version

    def _post(self, event: TransactionPosted, versions: Mapping[str, int] | None) -> None:
        accounts, known, postings = self._book.accounts, self.versions, self.postings
        seq, day = event.seq, event.effective_date
        moment = copy_format.microseconds(event.effective_at)
        self.transactions.append(
            self.transaction_row.encode(seq, moment, event.kind, event.context)
        )
        self.sorts[event.kind, event.context.channel].append(seq)
        if event.effective_at != event.recorded_at:
            self.add_value_dated(seq, event.effective_at)
        if event.metadata:
            self.add_metadata(seq, event.metadata)
        for number, entry in enumerate(event.entries):
            name = entry.account
            account = accounts[name]
            if name not in known:
                known[name] = versions[name] if versions else account.version
            amount = int(entry.amount)
            posting = seq, number, amount if entry.side == "debit" else -amount, day
            if account.number not in postings:
                postings[account.number] = fast.Postings()
            postings[account.number].append(posting)
        if event.reverses is not None:
            self.records["reversal"].append((self.ledger, event.reverses, event.seq))
        if event.captures is not None:
            self._touch(event, versions)
            self._holds.setdefault(event.captures, False)
            self.records["capture"].append((self.ledger, event.captures, event.seq))
        applied = event.applied
        if applied is not None and applied.period_start is not None:
            number = self._book.accounts[applied.account].number
            self.records["accrual"].append((self.ledger, applied.rule, number, event.seq))

    def add_metadata(self, seq: int, metadata: Mapping[str, str]) -> None:
        """What is declared of a transaction."""
        self.metadata += [(self.ledger, key, value, seq) for key, value in metadata.items()]

    def add_value_dated(self, seq: int, effective_at: str) -> None:
        """A transaction that counts for another moment than that at which it is recorded."""
        self.value_dated.append((self.ledger, dt.datetime.fromisoformat(effective_at), seq))

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

    @property
    def recorded_date(self) -> str:
        """The ledger's day on which it was recorded. Errors: ValueError for an empty batch."""
        if self._book.terms is None:
            raise ValueError("nothing is recorded")
        moment = dt.datetime.fromisoformat(self.recorded_at)
        return self._book.dates(self._book.terms, moment, self.recorded_at)[0]

    def balance_arrays(self) -> list[str]:
        """As `copy_format.balance_arrays`, of the accounts moved.

        Must be called before the next command is applied: balances are taken as they are.
        """
        accounts = self._book.accounts
        moved = [accounts[name] for name in self.versions]
        return fast.balance_arrays(moved, list(self.versions.values()))

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

    def grow(self) -> bytes:
        """Grow the tree by all events; gives its root. Called once, when nothing more is added."""
        for tile in self._tree.extend(self.leaf_hashes):
            self.records["tile"].append(
                (self.ledger, tile.level, tile.index, tile.hashes, tile.root)
            )
        return self._tree.root()
