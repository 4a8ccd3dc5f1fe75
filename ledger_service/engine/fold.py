"""A ledger's journal, folded: what the other tables must say if the journal is the truth."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from fractions import Fraction

import msgspec

from ledger_service.contract.events import (
    AccountChanged,
    AccountOpened,
    CurrencyDeclared,
    Entry,
    HoldPlaced,
    HoldReleased,
    JournalEvent,
    LedgerOpened,
    PeriodReopened,
    RuleDeclared,
    TransactionPosted,
    event_type,
)
from ledger_service.contract.rules import Applied
from ledger_service.domain import interest, legs, rule
from ledger_service.domain.account import parse_limit
from ledger_service.domain.applying import capitalizing_entries
from ledger_service.domain.closing import day_of
from ledger_service.domain.declaring import DeclarationEvent, name_of
from ledger_service.domain.hold import Hold, State, hold
from ledger_service.domain.interest import Accrued, accrued_of
from ledger_service.domain.period import is_day

NOTHING = interest.ratio(Fraction(0))


class Multiset:
    """A sum of hashes: two are equal where the same facts were added, in whatever order.

    So millions of rows are compared in constant memory; which one differs is asked only then.
    """

    __slots__ = ("total",)
    SIZE = 1 << 256
    """Totals are added and taken away modulo this."""

    def __init__(self) -> None:
        self.total = 0

    def add(self, facts: tuple[int | str | bytes, ...]) -> None:
        """Add one row."""
        digest = hashlib.sha256(repr(facts).encode()).digest()
        self.total = (self.total + int.from_bytes(digest, "big")) % self.SIZE


class AccountFold(msgspec.Struct):
    """One account as its events left it; `number` is the `seq` of its opening."""

    number: int
    currency: str
    account_class: str
    normal_side: str
    custodial: bool
    gl_code: str
    owner: str | None
    floor: int | None
    ceiling: int | None
    status: str = "open"
    status_seq: int = 0
    debits: int = 0
    credits: int = 0
    pending_debits: int = 0
    pending_credits: int = 0
    version: int = 0
    """`seq` of the last transaction or hold that moved it."""


class Fold(msgspec.Struct):
    """What the journal of one ledger says about the other tables."""

    accounts: dict[str, AccountFold] = msgspec.field(default_factory=dict)
    reversals: set[tuple[int, int]] = msgspec.field(default_factory=set)
    """`seq` of the original and of the reversal."""
    approvals: dict[int, str] = msgspec.field(default_factory=dict)
    """By `seq`, the approval that an event consumed."""
    unapproved: list[int] = msgspec.field(default_factory=list)
    """`seq` of rules of one person, after the first that took two (P12)."""
    holds: dict[int, Hold] = msgspec.field(default_factory=dict)
    captures: set[tuple[int, int]] = msgspec.field(default_factory=set)
    """`seq` of the hold and of the transaction that captures it."""
    periods: set[tuple[int, str, str]] = msgspec.field(default_factory=set)
    """`seq`, type and day of the events that closed, reopened or attested."""
    declarations: set[tuple[int, str, str]] = msgspec.field(default_factory=set)
    """`seq`, type and name of what was declared."""
    rules: dict[str, list[rule.Version]] = msgspec.field(default_factory=dict)
    accrued: dict[tuple[str, str], Accrued] = msgspec.field(default_factory=dict)
    """By rule and account."""
    accruing: interest.Accruals = msgspec.field(default_factory=dict)
    """What exact interest rests on, where it was brought in before an account's first accrual; the
    fold keeps it from then on. Where it was not, exact interest is taken as stated."""
    accruals: set[tuple[str, int, int]] = msgspec.field(default_factory=set)
    """Rule, account's number and `seq` of what accrued or capitalized interest."""
    states_true_ups: bool = False
    """Whether an accrual stated its true-up. The next ones do: what was accrued before that was
    introduced made nothing up."""
    disputed: list[tuple[int, str, str, Fraction]] = msgspec.field(default_factory=list)
    """Of `seq`, what it states (interest or true-up), how much, and what the entries before it give."""
    entries: Multiset = msgspec.field(default_factory=Multiset)
    """Of seq, number in the transaction, account's number, signed amount, effective date."""
    keys: Multiset = msgspec.field(default_factory=Multiset)
    """Of idempotency digest and seq."""
    recorded_at: str = ""

    def apply(self, event: JournalEvent) -> bool:
        """Take in the next event; gives whether it balances.

        Errors: KeyError for an unknown account, ValueError for an amount that is no number.
        """
        digest = getattr(event, "idempotency_digest", None)
        if digest is not None:
            self.keys.add((bytes.fromhex(digest), event.seq))
        if isinstance(event, AccountOpened):
            self._open(event)
        elif isinstance(event, AccountChanged):
            account = self.accounts[event.account]
            account.status, account.status_seq = event.status, event.seq
        elif isinstance(event, TransactionPosted):
            return self._post(event)
        elif isinstance(event, HoldPlaced):
            self.holds[event.seq] = hold(event)
            return self._move_pending(event.entries, event.seq, 1)
        elif isinstance(event, HoldReleased):
            self._release(event.hold, event.seq, event.cause, event.entries)
        elif isinstance(event, DeclarationEvent):
            self.declarations.add((event.seq, event_type(event), name_of(event)))
            self._approve(event)
            self.declare(event)
        elif not isinstance(event, LedgerOpened):
            self.periods.add((event.seq, event_type(event), day_of(event)))
            if isinstance(event, PeriodReopened):
                self.approvals[event.seq] = event.approval
        return True

    def declare(self, event: DeclarationEvent) -> None:
        """Keep a version of a rule, for what is posted by it."""
        if not isinstance(event, CurrencyDeclared):
            versions = self.rules.setdefault(event.rule, [])
            if event.version != len(versions) + 1:
                raise ValueError(f"version {event.version} of a rule that has {len(versions)}")
            versions.append(event)

    def _approve(self, event: DeclarationEvent) -> None:
        """Note a rule's approval, or that it has none although one before it has."""
        if isinstance(event, CurrencyDeclared):
            return
        if event.approval is not None:
            self.approvals[event.seq] = event.approval
        elif any(one.approval for versions in self.rules.values() for one in versions):
            self.unapproved.append(event.seq)

    def _apply_rule(self, event: TransactionPosted, applied: Applied) -> None:
        """Work the amounts out again. Errors: ValueError, where the rule gives others."""
        declared = next(
            (one for one in self.rules[applied.rule] if one.version == applied.version), None
        )
        account = self.accounts[applied.account]
        if not isinstance(declared, RuleDeclared):
            raise ValueError(f"{applied.rule} has no terms of version {applied.version}")  # noqa: TRY004
        if applied.period_start is None:
            fee = rule.fee(declared, int(applied.of_amount or 0))
            due = rule.entries(declared, applied.account, fee)
        else:
            due = self._apply_interest(event.seq, applied, declared, account)
        if event.entries != due:
            raise ValueError(f"entries that {applied.rule} does not give")

    def _apply_interest(
        self, seq: int, applied: Applied, declared: RuleDeclared, account: AccountFold
    ) -> list[Entry]:
        pair = applied.rule, applied.account
        before = self.accrued.get(pair)
        if applied.first_day is None:
            if before is None:
                raise ValueError("nothing had accrued")
            after = interest.capitalize(before)
            due = capitalizing_entries(
                declared,
                applied.account,
                before.posted,
                debit_normal=account.normal_side == "debit",
            )
        else:
            first, last = applied.first_day, applied.last_day or ""
            if not (is_day(first) and is_day(last) and first <= last):
                raise ValueError("days that are none")
            if before is not None and first <= before.through:
                raise ValueError("a day is accrued twice")
            exact = interest.parse_ratio(applied.interest or "")
            exact += interest.parse_ratio(applied.true_up or NOTHING)
            self._dispute(seq, applied, first, last)
            amount, after = interest.accrue(declared, before, exact, first=first, last=last)
            due = rule.entries(declared, applied.account, amount)
        if accrued_of(applied) != after:
            raise ValueError("what has accrued does not follow")
        self.accrued[pair] = after
        self.accruals.add((applied.rule, account.number, seq))
        return due

    def _dispute(self, seq: int, applied: Applied, first: str, last: str) -> None:
        """Note exact interest that the entries before it do not give.

        No error: what was brought in may itself be wrong, so what is stated is gone on with.
        """
        self.states_true_ups |= applied.true_up is not None
        accruing = self.accruing.get(applied.account, {}).get(applied.rule)
        if accruing is None:
            return
        before = self.accrued.get((applied.rule, applied.account))
        versions = self.rules[applied.rule]
        debit_normal = self.accounts[applied.account].normal_side == "debit"
        of_days = interest.of_days(
            versions,
            accruing.balances,
            debit_normal=debit_normal,
            period_start=before.period_start if before else first,
            first=first,
            last=last,
        )
        facts = [("interest", applied.interest or "", of_days)]
        if self.states_true_ups:
            true_up = interest.true_up(versions, accruing, debit_normal=debit_normal)
            facts.append(("true-up", applied.true_up or NOTHING, true_up))
        self.disputed += [
            (seq, name, stated, given)
            for name, stated, given in facts
            if stated != interest.ratio(given)
        ]

    def _open(self, event: AccountOpened) -> None:
        self.accounts[event.account] = AccountFold(
            event.seq,
            event.currency,
            event.account_class,
            event.normal_side,
            event.custodial,
            event.gl_code,
            event.owner,
            parse_limit(event.floor),
            parse_limit(event.ceiling),
            status_seq=event.seq,
        )

    def _move_pending(self, entries: Iterable[Entry], seq: int, sign: int) -> bool:
        balanced = 0
        for entry in entries:
            account, amount = self.accounts[entry.account], int(entry.amount)
            if amount <= 0 or entry.currency != account.currency:
                raise ValueError(f"an entry of {amount} {entry.currency}")
            account.version = seq
            if entry.side == "debit":
                account.pending_debits += sign * amount
            else:
                account.pending_credits += sign * amount
            balanced += amount if entry.side == "debit" else -amount
        return not balanced

    def _capture(self, event: TransactionPosted, number: int) -> None:
        self.captures.add((number, event.seq))
        held = self.holds[number]
        if held.state != "open":
            raise ValueError(f"a capture of a hold that is {held.state}")
        held.take(event.entries)
        held.version = event.seq
        if any(rest < 0 for rest in held.left.values()):
            raise ValueError("a capture beyond what is left of the hold")
        self._move_pending(event.entries, event.seq, -1)
        if event.ends_hold:
            self._release(number, event.seq, "captured", legs.part(held.left, None))

    def _release(self, number: int, seq: int, state: State, entries: Sequence[Entry]) -> None:
        held = self.holds[number]
        if held.state != "open" or list(entries) != legs.part(held.left, None):
            raise ValueError("a release of what was not held")
        held.take(entries)
        held.state, held.version = state, seq
        self._move_pending(entries, seq, -1)

    def _post(self, event: TransactionPosted) -> bool:
        if event.reverses is not None:
            self.reversals.add((event.reverses, event.seq))
        if event.approval is not None:
            self.approvals[event.seq] = event.approval
        if event.applied is not None:
            self._apply_rule(event, event.applied)
        sums: dict[str, int] = {}
        for number, entry in enumerate(event.entries):
            account, amount = self.accounts[entry.account], int(entry.amount)
            if amount <= 0 or entry.currency != account.currency:
                raise ValueError(f"an entry of {amount} {entry.currency}")
            account.version = event.seq
            if entry.side == "debit":
                account.debits += amount
            else:
                account.credits += amount
            signed = amount if entry.side == "debit" else -amount
            self.entries.add((event.seq, number, account.number, signed, event.effective_date))
            sums[entry.currency] = sums.get(entry.currency, 0) + signed
        if event.captures is not None:
            self._capture(event, event.captures)
        interest.follow(self.accruing, event)
        return not any(sums.values())


def hold_of(event: JournalEvent | None) -> int | None:
    """`seq` of the hold that an event presupposes."""
    if isinstance(event, TransactionPosted):
        return event.captures
    return event.hold if isinstance(event, HoldReleased) else None


def names_in(event: JournalEvent) -> list[str]:
    """The accounts that an event presupposes, those of the hold that it captures apart."""
    if isinstance(event, TransactionPosted | HoldPlaced | HoldReleased):
        applied = event.applied if isinstance(event, TransactionPosted) else None
        subject = [applied.account] if applied else []
        return [*(entry.account for entry in event.entries), *subject]
    return [event.account] if isinstance(event, AccountChanged) else []
