"""The book: one ledger's rules as a state machine, without I/O and without a clock.

`decide` looks at a command and the state and gives events, a refusal or a replay; it changes
nothing. `apply` brings an event into the state. Whoever has the same events has the same book. The
book holds only what is in use: `lacks` names what a command needs and the writer must `load` first.

Order of the checks: errors.REFUSALS.
"""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import msgspec

from ledger_service.contract import events
from ledger_service.contract.events import AccountChanged, AccountOpened, JournalEvent, LedgerOpened
from ledger_service.contract.events import TransactionPosted as Posted
from ledger_service.domain import decisions
from ledger_service.domain.account import Account, from_event, limits_are_sound, parse_limit
from ledger_service.domain.chart import Chart
from ledger_service.domain.commands import (
    ChangeAccount,
    Command,
    OpenAccount,
    OpenLedger,
    PostTransaction,
    ReverseTransaction,
)
from ledger_service.domain.errors import Refusal, refusal
from ledger_service.domain.opening import (
    Terms,
    open_account,
    open_ledger,
    shortfall_account,
    terms_of,
)
from ledger_service.domain.reversal import Original, original

__all__ = ["Book", "Lacks", "Replay"]


class Replay(msgspec.Struct, frozen=True):
    """The command was carried out before, as the event with this `seq`."""

    seq: int


class Lacks(msgspec.Struct):
    """What commands need that is not in memory. Absence in the database is an answer too."""

    accounts: set[str] = msgspec.field(default_factory=set[str])
    digests: set[bytes] = msgspec.field(default_factory=set[bytes])
    transactions: set[int] = msgspec.field(default_factory=set[int])


Decision = list[JournalEvent] | Refusal | Replay


class Book:
    """State of one ledger. `seq` is that of the last event applied; 0 before the ledger is open."""

    def __init__(self, ledger: str, charts: Mapping[str, Chart]) -> None:
        self.ledger = ledger
        self.charts = charts
        self.seq: int = 0
        self.recorded_at = ""
        self.terms: Terms | None = None
        self.accounts: OrderedDict[str, Account] = OrderedDict()
        self.keys: OrderedDict[bytes, tuple[int, bytes]] = OrderedDict()
        """Idempotency digest to `seq` and hash of the request."""
        self.originals: OrderedDict[int, Original] = OrderedDict()
        """Transactions that someone reverses."""
        self._dates: dict[str, tuple[str, str]] = {}
        self._now: dt.datetime | None = None
        self.now_text = ""
        """Canonical text of the moment at which a command is decided."""

    # --- memory -------------------------------------------------------------------------------

    def lacks(self, commands: Sequence[Command]) -> Lacks:
        """What must be loaded before these commands can be decided."""
        lacks = Lacks()
        for command in commands:
            if isinstance(command, PostTransaction):
                self._lacks_of_posting(command, lacks)
            elif isinstance(command, ReverseTransaction):
                self._lacks_of_reversal(command, lacks)
            elif not isinstance(command, OpenLedger) and command.account not in self.accounts:
                lacks.accounts.add(command.account)
        return lacks

    def _lacks_of_posting(self, command: PostTransaction, lacks: Lacks) -> None:
        accounts = self.accounts
        if command.digest not in self.keys:
            lacks.digests.add(command.digest)
        for entry in command.entries:
            if entry.account not in accounts:
                lacks.accounts.add(entry.account)
        if command.imposed and self.terms is not None:
            opened = self.terms.opened
            names = {shortfall_account(opened, currency) for currency in opened.currencies}
            lacks.accounts |= names - accounts.keys()

    def _lacks_of_reversal(self, command: ReverseTransaction, lacks: Lacks) -> None:
        if command.digest not in self.keys:
            lacks.digests.add(command.digest)
        known = self.originals.get(command.reverses)
        if known is None:
            lacks.transactions.add(command.reverses)
        else:
            lacks.accounts |= {leg[0] for leg in known.left} - self.accounts.keys()

    def forget(self, *, accounts: int, keys: int, originals: int, committed: int) -> None:
        """Keep at most so many of each, the oldest used go first; nothing that is not committed."""
        while len(self.accounts) > accounts:
            account = next(iter(self.accounts.values()))
            if max(account.version, account.status_seq) > committed:
                break
            self.accounts.popitem(last=False)
        while len(self.keys) > keys and next(iter(self.keys.values()))[0] <= committed:
            self.keys.popitem(last=False)
        while len(self.originals) > originals:
            self.originals.popitem(last=False)

    # --- deciding -----------------------------------------------------------------------------

    def decide(self, command: Command, now: dt.datetime) -> Decision:
        """What `command` leads to at the time `now`. Changes nothing that a caller can see."""
        if now is not self._now:
            self._now, self.now_text = now, events.timestamp(now)
        recorded_at = max(self.now_text, self.recorded_at)
        if isinstance(command, PostTransaction) and self.terms is not None:
            return self._move_money(self.terms, command, now, recorded_at)
        if isinstance(command, OpenLedger):
            return self._open_ledger(command, recorded_at)
        if self.terms is None:
            return refusal("ledger_not_open")
        if isinstance(command, OpenAccount):
            return self._open_account(self.terms, command, recorded_at)
        if isinstance(command, ChangeAccount):
            return self._change_account(command, recorded_at)
        return self._move_money(self.terms, command, now, recorded_at)

    def _move_money(
        self,
        terms: Terms,
        command: PostTransaction | ReverseTransaction,
        now: dt.datetime,
        recorded_at: str,
    ) -> Decision:
        known = self.keys.get(command.digest)
        if known is not None:
            seq, request_hash = known
            if request_hash == command.request_hash:
                return Replay(seq)
            return refusal("idempotency_conflict", seq=seq)
        if isinstance(command, PostTransaction):
            return decisions.post(self, terms, command, now, recorded_at)
        return decisions.reverse(self, terms, command, now, recorded_at)

    def _open_ledger(self, command: OpenLedger, recorded_at: str) -> Decision:
        if self.terms is not None:
            opened = self.terms.opened
            same = (
                opened.currencies == command.currencies
                and opened.time_zone == command.time_zone
                and opened.cut_off == command.cut_off
                and opened.calendar == command.calendar
                and opened.chart == command.chart
            )
            return Replay(1) if same else refusal("ledger_exists")
        return open_ledger(command, self.ledger, self.charts, recorded_at)

    def _open_account(self, terms: Terms, command: OpenAccount, recorded_at: str) -> Decision:
        account = self.accounts.get(command.account)
        if account is not None:
            same = limits_are_sound(command.floor, command.ceiling) and (
                (account.currency, account.owner, account.floor, account.ceiling)
                == (
                    command.currency,
                    command.owner,
                    parse_limit(command.floor),
                    parse_limit(command.ceiling),
                )
            )
            return Replay(account.number) if same else refusal("account_exists", seq=account.number)
        event = open_account(command, terms, self.seq + 1, recorded_at)
        return event if isinstance(event, Refusal) else [event]

    def _change_account(self, command: ChangeAccount, recorded_at: str) -> Decision:
        problem = decisions.check_change(command, self.accounts)
        if problem:
            return problem
        account = self.accounts[command.account]
        if account.status == command.status:
            return Replay(account.status_seq)
        return [
            AccountChanged(
                ledger=self.ledger,
                seq=self.seq + 1,
                recorded_at=recorded_at,
                actor=command.actor,
                request_id=command.request_id,
                account=command.account,
                status=command.status,
                reason=command.reason,
            )
        ]

    def dates(self, terms: Terms, moment: dt.datetime, text: str) -> tuple[str, str]:
        """Effective and business date of `moment`, whose canonical text is `text`."""
        minute = text[:16]
        known = self._dates.get(minute)
        if known is None:
            if len(self._dates) > 100_000:
                self._dates.clear()
            effective, business = terms.clock.dates(moment)
            known = self._dates[minute] = effective.isoformat(), business.isoformat()
        return known

    # --- applying -----------------------------------------------------------------------------

    def apply(self, event: JournalEvent, key: tuple[bytes, bytes] | None = None) -> None:
        """Bring the next event into the state. `key`: digest and request hash of its command."""
        if event.seq != self.seq + 1:
            raise ValueError(f"event {event.seq} does not follow {self.seq}")
        self.seq, self.recorded_at = event.seq, event.recorded_at
        if isinstance(event, Posted):
            self._move(event, 1)
            if key is not None:
                self.keys[key[0]] = (event.seq, key[1])
        elif isinstance(event, AccountOpened):
            self.accounts[event.account] = from_event(event)
        elif isinstance(event, AccountChanged):
            account = self.accounts[event.account]
            account.status, account.status_seq = event.status, event.seq
        else:
            self.terms = terms_of(event, self.charts)

    def retract(self, applied: Sequence[Posted], versions: Mapping[str, int]) -> None:
        """Take back the transactions applied last, as if they had never been decided.

        `versions`: of the accounts they moved, before. For a linked batch that is refused later on
        and for an approval that turns out to be void; never for anything committed.
        """
        for event in reversed(applied):
            if event.seq != self.seq:
                raise ValueError(f"event {event.seq} is not the last one, {self.seq}")
            self._move(event, -1)
            self.seq -= 1
            self.keys.pop(bytes.fromhex(event.idempotency_digest), None)
        for name, version in versions.items():
            self.accounts[name].version = version

    def _move(self, event: Posted, sign: int) -> None:
        accounts, seq = self.accounts, event.seq
        for entry in event.entries:
            name = entry.account
            account = accounts[name]
            if entry.side == "debit":
                account.debits += sign * int(entry.amount)
            else:
                account.credits += sign * int(entry.amount)
            account.version = seq
            accounts.move_to_end(name)
        if event.reverses is not None:
            self.originals[event.reverses].take(event.entries, sign)

    def load_original(self, event: Posted, reversals: Sequence[Posted]) -> None:
        """Remember a transaction that is to be reversed, and its reversals so far."""
        source = original(event)
        for reversal in reversals:
            source.take(reversal.entries)
        self.originals[event.seq] = source

    def load_ledger(self, event: LedgerOpened, seq: int, recorded_at: str) -> None:
        """Stand where the journal stands: the opening event, the last `seq` and its time."""
        self.terms = terms_of(event, self.charts)
        self.seq, self.recorded_at = seq, recorded_at
