"""The book: one ledger's rules as a state machine, without I/O and without a clock.

`decide` looks at a command and the state and gives events, a refusal or a replay; it changes
nothing. `apply` brings an event into the state. Whoever has the same events has the same book. The
book holds only what is in use: `memory` tells what a command needs and the writer must load first.

Order of the checks: errors.REFUSALS.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ledger_service.contract import events
from ledger_service.contract.events import (
    AccountChanged,
    AccountOpened,
    Entry,
    HoldPlaced,
    HoldReleased,
    JournalEvent,
    LedgerOpened,
    RuleDeclared,
    RuleWithdrawn,
    TransactionPosted,
)
from ledger_service.domain import applying, closing, decisions, declaring, holding, legs, limits
from ledger_service.domain.account import Account, from_event, limits_are_sound, parse_limit
from ledger_service.domain.chart import Chart
from ledger_service.domain.closing import Books
from ledger_service.domain.commands import (
    KEYED,
    CaptureHold,
    ChangeAccount,
    Command,
    ExpireHold,
    Keyed,
    OpenAccount,
    OpenLedger,
    PlaceHold,
    PostTransaction,
    ReverseTransaction,
    VoidHold,
)
from ledger_service.domain.decisions import When
from ledger_service.domain.declaring import DeclarationEvent
from ledger_service.domain.errors import Refusal, refusal
from ledger_service.domain.hold import Hold, State, hold
from ledger_service.domain.interest import Accruals, copied, follow
from ledger_service.domain.opening import Terms, open_account, open_ledger, terms_of, with_currency
from ledger_service.domain.period import PeriodEvent, Periods
from ledger_service.domain.period_commands import OfPeriod
from ledger_service.domain.reversal import Original, original
from ledger_service.domain.rule import Version
from ledger_service.domain.rule_commands import Declaring

Keyless = OpenLedger | OpenAccount | ChangeAccount | ExpireHold | OfPeriod | Declaring


class Replay(msgspec.Struct, frozen=True):
    """The command was carried out before, as the event with this `seq`."""

    seq: int


class _Before(msgspec.Struct):
    """What a linked batch has touched, as it was: to be put back if the batch is refused."""

    seq: int
    recorded_at: str
    accounts: dict[str, Account] = msgspec.field(default_factory=dict[str, Account])
    originals: dict[int, Original] = msgspec.field(default_factory=dict[int, Original])
    holds: dict[int, Hold | None] = msgspec.field(default_factory=dict[int, Hold | None])
    digests: list[bytes] = msgspec.field(default_factory=list[bytes])
    accruals: Accruals = msgspec.field(default_factory=Accruals)


Decision = list[JournalEvent] | Refusal | Replay


class Book:
    """State of one ledger. `seq` is that of the last event applied; 0 before the ledger is open."""

    def __init__(self, ledger: str, charts: Mapping[str, Chart]) -> None:
        self.ledger = ledger
        self.charts = charts
        self.seq: int = 0
        self.recorded_at = ""
        self.terms: Terms | None = None
        self.accounts: dict[str, Account] = {}
        self.keys: dict[bytes, tuple[int, bytes]] = {}
        """Idempotency digest to `seq` and hash of the request."""
        self.originals: dict[int, Original] = {}
        """Transactions that someone reverses or corrects."""
        self.holds: dict[int, Hold] = {}
        self.periods = Periods()
        self.closings: dict[str, Books | Refusal] = {}
        """By last day: what a period's closing states, or why the books can't be closed. Good for
        the next command alone."""
        self.rules: dict[str, list[Version]] = {}
        """Of each posting rule all that was declared, in order."""
        self.accruals: Accruals = {}
        """What accruals rest on. Good for the commands of one batch."""
        self._before: _Before | None = None
        self._dates: dict[str, tuple[str, str]] = {}
        self._now: dt.datetime | None = None
        self.now_text = ""
        """Canonical text of the moment at which a command is decided."""
        self.present: When | None = None
        """When what is decided now counts; the same for all commands of a moment."""

    # --- deciding -----------------------------------------------------------------------------

    def decide(self, command: Command, now: dt.datetime) -> Decision:
        """What `command` leads to at the time `now`. Changes nothing that a caller can see."""
        recorded_at = self.at(now)
        if not isinstance(command, KEYED):
            return self._decide_keyless(command, now, recorded_at)
        if self.terms is None:
            return refusal("ledger_not_open")
        known = self.keys.get(command.digest)
        if known is not None:
            seq, request_hash = known
            if request_hash == command.request_hash:
                return Replay(seq)
            return refusal("idempotency_conflict", seq=seq)
        return self._decide_money(self.terms, command, now, recorded_at)

    def at(self, now: dt.datetime) -> str:
        """When what is decided at the time `now` is recorded, which never goes back."""
        if now is not self._now:
            self._now, self.now_text, self.present = now, events.timestamp(now), None
        return max(self.now_text, self.recorded_at)

    def _decide_money(
        self, terms: Terms, command: Keyed, now: dt.datetime, recorded_at: str
    ) -> Decision:
        if isinstance(command, PostTransaction):
            return decisions.post(self, terms, command, now, recorded_at)
        if isinstance(command, ReverseTransaction):
            return decisions.reverse(self, terms, command, now, recorded_at)
        if isinstance(command, PlaceHold):
            return holding.place_hold(self, terms, command, now, recorded_at)
        if isinstance(command, CaptureHold):
            return holding.capture_hold(self, terms, command, now, recorded_at)
        if isinstance(command, VoidHold):
            return holding.release_hold(self, command, now, recorded_at)
        return applying.decide(self, terms, command, now, recorded_at)

    def _decide_keyless(self, command: Keyless, now: dt.datetime, recorded_at: str) -> Decision:
        if isinstance(command, OpenLedger):
            return self._open_ledger(command, recorded_at)
        if self.terms is None:
            return refusal("ledger_not_open")
        if isinstance(command, OpenAccount):
            return self._open_account(self.terms, command, recorded_at)
        if isinstance(command, ChangeAccount):
            return self._change_account(command, recorded_at)
        if isinstance(command, ExpireHold):
            return holding.release_hold(self, command, now, recorded_at)
        if isinstance(command, Declaring):
            found = declaring.decide(self, self.terms, command, recorded_at)
        else:
            found = closing.decide(self, self.terms, command, now, recorded_at)
        return Replay(found) if isinstance(found, int) else found

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
        problem = limits.check_change(command, self.accounts)
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
        if key is not None:
            self.keys[key[0]] = (event.seq, key[1])
            if self._before is not None:
                self._before.digests.append(key[0])
        if isinstance(event, TransactionPosted):
            self._post(event)
        elif isinstance(event, HoldPlaced):
            self._keep_hold(event.seq)
            self.holds[event.seq] = hold(event)
            self._move_pending(event.entries, event.seq, 1)
        elif isinstance(event, HoldReleased):
            self._release(event.hold, event.seq, event.cause)
        elif isinstance(event, AccountOpened):
            self.accounts[event.account] = from_event(event)
        elif isinstance(event, AccountChanged):
            account = self.accounts[event.account]
            account.status, account.status_seq = event.status, event.seq
        elif isinstance(event, LedgerOpened):
            self.terms = terms_of(event, self.charts)
        elif isinstance(event, DeclarationEvent):
            self._declare(event)
        else:
            self.periods.apply(event)
            self.present = None

    def _declare(self, event: DeclarationEvent) -> None:
        if isinstance(event, RuleDeclared | RuleWithdrawn):
            self.rules.setdefault(event.rule, []).append(event)
        elif self.terms is not None:
            self.terms = with_currency(self.terms, event)

    def touched(self, event: JournalEvent) -> Iterable[str]:
        """The accounts that an event will move, posted or pending; some may be named twice."""
        if isinstance(event, TransactionPosted | HoldPlaced | HoldReleased):
            for entry in event.entries:
                yield entry.account
        if isinstance(event, TransactionPosted) and event.captures is not None:
            # a small part of a hold may leave a leg out, whose rest is released all the same
            yield from (leg[0] for leg in self.holds[event.captures].left)

    def _post(self, event: TransactionPosted) -> None:
        for entry in event.entries:
            account = self._touch(entry.account, event.seq)
            if entry.side == "debit":
                account.debits += int(entry.amount)
            else:
                account.credits += int(entry.amount)
        if event.reverses is not None:
            self._keep_original(event.reverses)
            self.originals[event.reverses].take(event.entries)
        if event.captures is not None:
            self._keep_hold(event.captures)
            held = self.holds[event.captures]
            held.take(event.entries)
            held.version = event.seq
            self._move_pending(event.entries, event.seq, -1)
            if event.ends_hold:
                self._release(event.captures, event.seq, "captured")
        if self.accruals:
            follow(self.accruals, event)

    def _move_pending(self, entries: Sequence[Entry], seq: int, sign: int) -> None:
        for entry in entries:
            account = self._touch(entry.account, seq)
            if entry.side == "debit":
                account.pending_debits += sign * int(entry.amount)
            else:
                account.pending_credits += sign * int(entry.amount)

    def _release(self, number: int, seq: int, state: State) -> None:
        self._keep_hold(number)
        held = self.holds[number]
        rest = legs.part(held.left, None)
        held.take(rest)
        held.state, held.version = state, seq
        self._move_pending(rest, seq, -1)

    def _touch(self, name: str, seq: int) -> Account:
        """An account that is about to be moved by event `seq`."""
        account = self.accounts[name]
        if self._before is not None and name not in self._before.accounts:
            self._before.accounts[name] = msgspec.structs.replace(account)
        account.version = seq
        return account

    # --- linked batches -----------------------------------------------------------------------

    def begin(self) -> None:
        """From here on, what is applied can be taken back as a whole."""
        self._before = _Before(self.seq, self.recorded_at, accruals=copied(self.accruals))

    def keep(self) -> None:
        """What was applied since `begin` stays."""
        self._before = None

    def take_back(self) -> None:
        """Stand again where `begin` was called; for what was never committed."""
        before, self._before = self._before, None
        if before is None:
            raise ValueError("nothing was begun")
        self.seq, self.recorded_at = before.seq, before.recorded_at
        self.accounts.update(before.accounts)
        self.originals.update(before.originals)
        self.accruals = before.accruals
        for number, held in before.holds.items():
            if held is None:
                self.holds.pop(number, None)
            else:
                self.holds[number] = held
        for digest in before.digests:
            self.keys.pop(digest, None)

    def _keep_original(self, number: int) -> None:
        if self._before is not None and number not in self._before.originals:
            source = self.originals[number]
            self._before.originals[number] = msgspec.structs.replace(source, left={**source.left})

    def _keep_hold(self, number: int) -> None:
        if self._before is not None and number not in self._before.holds:
            held = self.holds.get(number)
            self._before.holds[number] = held and msgspec.structs.replace(held, left={**held.left})

    # --- loading ------------------------------------------------------------------------------

    def load_original(
        self, event: TransactionPosted, reversals: Sequence[TransactionPosted]
    ) -> None:
        """Remember a transaction that is to be reversed or corrected, and its reversals so far."""
        source = original(event)
        for reversal in reversals:
            source.take(reversal.entries)
        self.originals[event.seq] = source

    def load_hold(self, event: HoldPlaced, left: Sequence[int], state: State, version: int) -> None:
        """Remember a hold: what is left of each leg, in their order, and what became of it."""
        held = hold(event)
        held.left = dict(zip(held.left, left, strict=True))
        held.state, held.version = state, version
        self.holds[event.seq] = held

    def load_ledger(
        self,
        event: LedgerOpened,
        seq: int,
        recorded_at: str,
        closed: Sequence[PeriodEvent] = (),
        declared: Sequence[DeclarationEvent] = (),
    ) -> None:
        """Stand where the journal stands: the opening event, the last `seq` and its time, and all
        events of periods and all declarations, each in order.
        """
        self.terms = terms_of(event, self.charts)
        self.seq, self.recorded_at = seq, recorded_at
        for one in closed:
            self.periods.apply(one)
        for one in declared:
            self._declare(one)
