"""A ledger's journal, folded: what the other tables must say if the journal is the truth."""

from __future__ import annotations

import msgspec

from ledger_service.contract.events import (
    AccountChanged,
    AccountOpened,
    JournalEvent,
    TransactionPosted,
)


class AccountFold(msgspec.Struct):
    """One account as its events left it; `number` is the `seq` of its opening."""

    number: int
    currency: str
    status: str = "open"
    status_seq: int = 0
    debits: int = 0
    credits: int = 0
    version: int = 0


class Fold(msgspec.Struct):
    """What the journal of one ledger says about the other tables."""

    accounts: dict[str, AccountFold] = msgspec.field(default_factory=dict)
    reversals: set[tuple[int, int]] = msgspec.field(default_factory=set)
    roots: dict[int, bytes] = msgspec.field(default_factory=dict)
    """Root at the size of each checkpoint and at the end."""
    tiles: int = 0
    recorded_at: str = ""

    def apply(self, event: JournalEvent) -> bool:
        """Take in the next event; gives whether it balances.

        Errors: KeyError for an unknown account, ValueError for an amount that is no number.
        """
        if isinstance(event, AccountOpened):
            opened = AccountFold(event.seq, event.currency, status_seq=event.seq)
            self.accounts[event.account] = opened
        elif isinstance(event, AccountChanged):
            account = self.accounts[event.account]
            account.status, account.status_seq = event.status, event.seq
        elif isinstance(event, TransactionPosted):
            if event.reverses is not None:
                self.reversals.add((event.reverses, event.seq))
            return self._post(event)
        return True

    def _post(self, event: TransactionPosted) -> bool:
        sums: dict[str, int] = {}
        for entry in event.entries:
            account, amount = self.accounts[entry.account], int(entry.amount)
            account.version = event.seq
            if entry.side == "debit":
                account.debits += amount
            else:
                account.credits += amount
            signed = amount if entry.side == "debit" else -amount
            sums[entry.currency] = sums.get(entry.currency, 0) + signed
        return not any(sums.values())
