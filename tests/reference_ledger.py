"""A slow, obvious ledger: the rules in their plainest form, to hold the real one against.

It shares nothing with the product but the words of its refusals and the form of an entry. Whoever
drives it asks `why_not` first, and tells it with `take` what was done, under which `seq`.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import NamedTuple

import msgspec

from ledger_service.contract.events import Entry
from tests.asking import Ask, Line

SHORTFALL = "receivable:shortfall"
DEBIT_NORMAL = ("bank:", "receivable:")
Legs = dict[tuple[str, bool], int]
"""Minor units by account and whether it is debited."""
_FROZEN = {
    "open": (),
    "frozen": (True, False),
    "debits_frozen": (True,),
    "credits_frozen": (False,),
}


class AccountState(NamedTuple):
    """One account as a ledger states it; `debits` less credits, minor units."""

    debits: int
    pending_debits: int
    pending_credits: int
    status: str


class Held(msgspec.Struct):
    """What is left of a hold."""

    left: Legs
    expires_at: str | None
    is_open: bool = True


class Posted(msgspec.Struct):
    """A transaction, and what is left of it to reverse."""

    lines: list[Line]
    left: Legs
    is_reversal: bool


class ReferenceLedger:
    """`floors`: every account and its floor, which only accounts with a credit balance may have."""

    def __init__(self, floors: Mapping[str, int | None]) -> None:
        self.floors = {**floors, SHORTFALL: None}
        self.status = dict.fromkeys(self.floors, "open")
        self.posted: dict[int, Posted] = {}
        self.held: dict[int, Held] = {}
        self.keys: dict[str, tuple[int, Ask]] = {}
        self.soft_closed, self.closed = "", ""
        """The last day of each, as text."""
        self._debits: Counter[str] = Counter()
        self._pending: Counter[tuple[str, bool]] = Counter()

    # --- what it knows --------------------------------------------------------------------------

    def debits(self, account: str) -> int:
        """Debits less credits of what is posted."""
        return self._debits[account]

    def balance(self, account: str) -> int:
        """On the account's normal side."""
        return self.debits(account) * (1 if account.startswith(DEBIT_NORMAL) else -1)

    def pending(self, account: str, *, debit: bool) -> int:
        """What open holds will still debit or credit."""
        return self._pending[account, debit]

    def secured(self, account: str) -> int:
        """What a customer has, less what is held of it."""
        return self.balance(account) - self.pending(account, debit=True)

    def accounts(self) -> dict[str, AccountState]:
        """Every account."""
        return {
            account: AccountState(
                self.debits(account),
                self.pending(account, debit=True),
                self.pending(account, debit=False),
                status,
            )
            for account, status in self.status.items()
        }

    def open_holds(self) -> list[int]:
        """By `seq`."""
        return [seq for seq, held in self.held.items() if held.is_open]

    def recount(self) -> None:
        """Add up everything ever posted and all that is held. Errors: AssertionError."""
        debits: Counter[str] = Counter()
        for one in self.posted.values():
            for account, amount in one.lines:
                debits[account] += amount
        assert {k: v for k, v in debits.items() if v} == {
            k: v for k, v in self._debits.items() if v
        }
        pending: Counter[tuple[str, bool]] = Counter()
        for held in self.held.values():
            pending.update(held.left)
        assert +pending == +self._pending
        assert min(self._pending.values(), default=0) >= 0

    # --- the rules ------------------------------------------------------------------------------

    def first_answer(self, ask: Ask) -> int | str | None:
        """`seq` of the first answer under the key, or that it was another question; None: neither."""
        if ask.key not in self.keys:
            return None
        seq, first = self.keys[ask.key]
        return (
            seq if first == msgspec.structs.replace(ask, dry_run=False) else "idempotency_conflict"
        )

    def why_not(self, ask: Ask, now: str) -> str | None:  # noqa: PLR0911 - a table, as a match
        """The first reason for which it is refused at the moment `now`; None: it is done."""
        match ask.do:
            case "post":
                return self._why_not_post(ask)
            case "hold":
                return self._why_not_hold(ask, now)
            case "capture":
                return self._why_not_capture(ask, now)
            case "void":
                return self._why_not_end(ask.of)
            case "reverse":
                return self._why_not_reverse(ask)
            case "soft_close" | "close":
                done = self.soft_closed if ask.do == "soft_close" else self.closed
                return "period_closed" if ask.day < done else None
            case "reopen":
                return None if ask.day <= self.closed else "period_not_closed"
        return None

    def _why_not_post(self, ask: Ask) -> str | None:
        if sum(amount for _, amount in ask.lines):
            return "unbalanced"
        if ask.imposed:
            return self._unknown(ask.lines)
        return (
            self._why_not_on(ask.effective_at, corrects=ask.corrects > 0)
            or self._frozen(ask.lines)
            or ("unknown_corrected" if ask.corrects and ask.corrects not in self.posted else None)
            or self._floors(ask.lines)
        )

    def _why_not_on(self, effective_at: str | None, *, corrects: bool = False) -> str | None:
        day = "9999" if effective_at is None else effective_at[:10]
        if day <= self.closed:
            return "period_closed"
        return "period_soft_closed" if day <= self.soft_closed and not corrects else None

    def _why_not_hold(self, ask: Ask, now: str) -> str | None:
        if sum(amount for _, amount in ask.lines):
            return "unbalanced"
        if ask.expires_at is not None and ask.expires_at <= now:
            return "bad_expiry"
        return self._frozen(ask.lines) or self._floors([line for line in ask.lines if line[1] > 0])

    def _why_not_capture(self, ask: Ask, now: str) -> str | None:
        if problem := self._why_not_on(ask.effective_at):
            return problem
        held = self.held.get(ask.of)
        if held is None:
            return "unknown_hold"
        if problem := self._frozen(lines_of(held.left)):
            return problem
        if not held.is_open:
            return "hold_ended"
        if held.expires_at is not None and held.expires_at <= now:
            return "hold_expired"
        return "hold_exceeded" if (ask.amount or 0) > debited(held.left) else None

    def _why_not_end(self, hold: int) -> str | None:
        if hold not in self.held:
            return "unknown_hold"
        return None if self.held[hold].is_open else "hold_ended"

    def _why_not_reverse(self, ask: Ask) -> str | None:
        if ask.of not in self.posted:
            return "unknown_transaction"
        original = self.posted[ask.of]
        if original.is_reversal:
            return "is_a_reversal"
        left = debited(original.left)
        if not left or (ask.amount or 0) > left:
            return "reversal_exceeds"
        lines = self.lines_of(ask)
        return self._frozen(lines) or self._floors(lines)

    def _unknown(self, lines: list[Line]) -> str | None:
        return None if all(account in self.floors for account, _ in lines) else "unknown_account"

    def _frozen(self, lines: list[Line]) -> str | None:
        if problem := self._unknown(lines):
            return problem
        stopped = any((amount > 0) in _FROZEN[self.status[account]] for account, amount in lines)
        return "account_frozen" if stopped else None

    def _floors(self, lines: Iterable[Line]) -> str | None:
        passed = any(short > 0 for _, short in self._short(lines))
        return "floor_passed" if passed else None

    def _short(self, lines: Iterable[Line]) -> list[Line]:
        """By how much each customer would fall below the floor, at most by what is taken now."""
        taken: Counter[str] = Counter()
        for account, amount in lines:
            taken[account] += amount
        found = []
        for account, amount in taken.items():
            floor = self.floors[account]
            if floor is not None and amount > 0:
                found.append((account, min(amount, floor - self.secured(account) + amount)))
        return found

    # --- what follows ---------------------------------------------------------------------------

    def lines_of(self, ask: Ask) -> list[Line]:
        """What it posts or holds, or gives back."""
        if ask.do == "capture":
            return lines_of(part(self.held[ask.of].left, ask.amount))
        if ask.do == "void":
            return lines_of(self.held[ask.of].left)
        if ask.do == "reverse":
            taken = part(self.posted[ask.of].left, ask.amount)
            return [(account, -amount) for account, amount in lines_of(taken)]
        if not ask.imposed:
            return ask.lines
        short = [line for line in self._short(ask.lines) if line[1] > 0]
        owed = [(SHORTFALL, amount) for _, amount in short]
        return [*ask.lines, *owed, *((account, -amount) for account, amount in short)]

    def take(self, seq: int, ask: Ask) -> None:
        """It was done, as event `seq`."""
        if ask.do in ("status", "soft_close", "close", "reopen"):
            self._set(ask)
            return
        lines = self.lines_of(ask)
        self.keys[ask.key] = seq, ask
        if ask.do == "hold":
            self.held[seq] = Held(legs_of(lines), ask.expires_at)
            self._pending.update(self.held[seq].left)
        elif ask.do == "void":
            self.release(ask.of)
        else:
            self.posted[seq] = Posted(lines, legs_of(lines), ask.do == "reverse")
            for account, amount in lines:
                self._debits[account] += amount
        if ask.do == "capture":
            held, taken = self.held[ask.of], legs_of(lines)
            held.left = subtract(held.left, taken)
            self._pending.subtract(taken)
            if ask.ends_hold or not held.left:
                self.release(ask.of)
        if ask.do == "reverse":
            original = self.posted[ask.of]
            original.left = subtract(original.left, legs_of((name, -a) for name, a in lines))

    def _set(self, ask: Ask) -> None:
        """What has no idempotency key: once it is so, asking again changes nothing."""
        if ask.do == "status":
            self.status[ask.account] = ask.status
        elif ask.do == "reopen":
            before = dt.date.fromisoformat(ask.day) - dt.timedelta(days=1)
            self.closed = min(self.closed, before.isoformat())
        else:
            self.soft_closed = max(self.soft_closed, ask.day)
            self.closed = ask.day if ask.do == "close" else self.closed

    def why_not_expire(self, hold: int, now: str) -> str | None:
        """Why the clock may not end a hold."""
        if problem := self._why_not_end(hold):
            return problem
        until = self.held[hold].expires_at
        return None if until is not None and until <= now else "hold_not_expired"

    def release(self, hold: int) -> None:
        """What is left of a hold is there again."""
        held = self.held[hold]
        self._pending.subtract(held.left)
        held.left, held.is_open = {}, False


def signed(entries: Iterable[Entry]) -> list[Line]:
    """An event's entries as lines."""
    return [(one.account, int(one.amount) * (1 if one.side == "debit" else -1)) for one in entries]


def legs_of(lines: Iterable[Line]) -> Legs:
    """Lines added up by account and side, in their order."""
    legs: Legs = {}
    for account, amount in lines:
        leg = account, amount > 0
        legs[leg] = legs.get(leg, 0) + abs(amount)
    return legs


def lines_of(legs: Legs) -> list[Line]:
    """The other way round."""
    return [(account, amount if debit else -amount) for (account, debit), amount in legs.items()]


def debited(legs: Legs) -> int:
    """Minor units of the debit side, which balances the credit side."""
    return sum(amount for (_, debit), amount in legs.items() if debit)


def subtract(legs: Legs, taken: Legs) -> Legs:
    """What is left. Errors: AssertionError where more is taken than there is."""
    left = {leg: amount - taken.get(leg, 0) for leg, amount in legs.items()}
    assert taken.keys() <= left.keys(), f"{taken} of {legs}"
    assert min(left.values()) >= 0, f"{taken} of {legs}"
    return {leg: amount for leg, amount in left.items() if amount}


def part(legs: Legs, amount: int | None) -> Legs:
    """`amount` of each side spread over its legs by largest remainder, the first among equals."""
    if amount is None:
        return legs
    taken: Legs = {}
    for side in (True, False):
        shares = {leg: Fraction(amount * rest, debited(legs)) for leg, rest in legs.items()
                  if leg[1] == side}  # fmt: skip
        parts = {leg: int(share) for leg, share in shares.items()}
        by_remainder = sorted(shares, key=lambda leg: int(shares[leg]) - shares[leg])
        for leg in by_remainder[: amount - sum(parts.values())]:
            parts[leg] += 1
        taken |= parts
    return {leg: taken[leg] for leg in legs if taken[leg]}
