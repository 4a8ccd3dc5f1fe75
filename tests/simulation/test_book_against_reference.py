"""The book against a slow, obvious ledger: whatever happens, both say the same."""

from __future__ import annotations

import datetime as dt

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ledger_service.contract.events import TransactionPosted, timestamp
from ledger_service.domain.book import Replay
from ledger_service.domain.commands import ChangeAccount, ExpireHold
from ledger_service.domain.errors import Refusal
from tests.ledger_book import (
    NOW,
    capturing,
    carry_out,
    holding,
    open_book,
    posting,
    reversing,
    voiding,
)

CUSTOMERS = [f"customer:{number}:wallet" for number in range(3)]
ACCOUNTS = [*CUSTOMERS, "bank:fbo", "clearing:ach"]
DEBIT_NORMAL = {"bank:fbo", "receivable:shortfall"}
# Mostly open, and small amounts: so that limits, not frozen accounts, decide.
STATUSES = [*["open"] * 9, "frozen", "debits_frozen", "credits_frozen"]


class ReferenceLedger:
    """Every balance is the sum of all lines ever posted. No state but the list of transactions."""

    def __init__(self) -> None:
        self.posted: dict[int, list[tuple[str, int]]] = {}
        self.reversed: dict[int, int] = {}
        self.keys: dict[str, tuple[int, object]] = {}
        self.held: dict[int, dict[tuple[str, bool], int]] = {}
        """What is left of each open hold, by account and whether it will be debited."""
        self.expiry: dict[int, int] = {}
        self.status = dict.fromkeys([*ACCOUNTS, "receivable:shortfall"], "open")

    def balance(self, account: str) -> int:
        """On the normal side."""
        total = sum(a for lines in self.posted.values() for name, a in lines if name == account)
        return total if account in DEBIT_NORMAL else -total

    def secured(self, customer: str) -> int:
        """What a customer has, less what is held of it."""
        pending = sum(left.get((customer, True), 0) for left in self.held.values())
        return self.balance(customer) - pending

    def why_not(
        self, lines: list[tuple[str, int]], *, imposed: bool = False, pending: bool = False
    ) -> str | None:
        """The first reason for which lines are refused."""
        if sum(amount for _, amount in lines):
            return "unbalanced"
        if imposed:
            return None
        for name, amount in lines:
            frozen = {"frozen", "debits_frozen" if amount > 0 else "credits_frozen"}
            if self.status[name] in frozen:
                return "account_frozen"
        for name in CUSTOMERS:
            moved = [-amount for other, amount in lines if other == name]
            change = sum(amount for amount in moved if not pending or amount < 0)
            if change < 0 and self.secured(name) + change < 0:
                return "floor_passed"
        return None


class BookMachine(RuleBasedStateMachine):
    """Random commands to both."""

    def __init__(self) -> None:
        super().__init__()
        self.book = open_book(*ACCOUNTS, floor="0")
        self.reference = ReferenceLedger()
        self.count = 0
        self.minute = 0

    @property
    def now(self) -> dt.datetime:
        return NOW + dt.timedelta(minutes=self.minute)

    def _settle(self, seq: int, key: str, content: object, lines: list[tuple[str, int]]) -> None:
        self.reference.posted[seq] = lines
        self.reference.keys[key] = seq, content
        self.reference.reversed[seq] = 0

    @rule(
        key=st.integers(0, 400),
        imposed=st.booleans(),
        lines=st.lists(
            st.tuples(st.sampled_from(ACCOUNTS), st.integers(-6, 6).filter(bool)),
            min_size=1,
            max_size=4,
        ),
        last=st.sampled_from(ACCOUNTS),
        skewed=st.integers(0, 9),
    )
    def post(self, key, imposed, lines, last, skewed) -> None:
        """Post lines that balance, nine times of ten."""
        # the outside world asks for more than there is
        lines = [(account, amount * (10 if imposed else 1)) for account, amount in lines]
        rest = -sum(amount for _, amount in lines)
        lines = [*lines, (last, rest + (skewed == 0))]
        lines = [line for line in lines if line[1]]
        if len(lines) < 2:
            return
        name, reference = f"k{key}", self.reference
        command = posting(name, *lines, imposed=imposed)
        decision = carry_out(self.book, command, self.now)
        content = (tuple(lines), imposed)
        if name in reference.keys:
            seq, first = reference.keys[name]
            if first == content:
                assert decision == Replay(seq)
            else:
                assert isinstance(decision, Refusal)
                assert decision.code == "idempotency_conflict"
            return
        reason = reference.why_not(lines, imposed=imposed)
        if reason is not None:
            assert isinstance(decision, Refusal)
            assert decision.code == reason
            return
        assert isinstance(decision, list)
        event = decision[0]
        assert isinstance(event, TransactionPosted)
        settled = list(lines)
        if imposed:
            for customer in CUSTOMERS:
                change = -sum(amount for other, amount in lines if other == customer)
                short = min(-(reference.secured(customer) + change), -change)
                if change < 0 and short > 0:
                    settled += [("receivable:shortfall", short), (customer, -short)]
        self._settle(event.seq, name, content, settled)

    @rule(data=st.data(), whole=st.booleans(), amount=st.integers(1, 9))
    def reverse(self, data, whole, amount) -> None:
        """Reverse a transaction, wholly or in part."""
        reference = self.reference
        if not reference.posted:
            return
        seq = data.draw(st.sampled_from(sorted(reference.posted)))
        self.count += 1
        name = f"r{self.count}"
        decision = carry_out(self.book, reversing(name, seq, None if whole else amount), self.now)
        if seq not in reference.reversed:
            assert isinstance(decision, Refusal)
            assert decision.code in ("is_a_reversal", "unknown_transaction")
            return
        legs = [a for _, a in reference.posted[seq] if a > 0]
        left = sum(legs) - reference.reversed[seq]
        wanted = left if whole else amount
        if wanted > left or not left:
            assert isinstance(decision, Refusal)
            assert decision.code == "reversal_exceeds"
        elif isinstance(decision, list):
            event = decision[0]
            assert isinstance(event, TransactionPosted)
            lines = [
                (e.account, int(e.amount) if e.side == "debit" else -int(e.amount))
                for e in event.entries
            ]
            assert reference.why_not(lines) is None
            assert sum(a for _, a in lines if a > 0) == wanted
            reference.posted[event.seq] = lines
            reference.reversed[seq] += wanted
        else:
            assert isinstance(decision, Refusal)
            assert decision.code in ("floor_passed", "account_frozen")

    @rule(customer=st.sampled_from(CUSTOMERS), amount=st.integers(5, 40))
    def fund(self, customer, amount) -> None:
        """Bring money from outside, so that there is something to hold and to lose."""
        self.count += 1
        lines = [("bank:fbo", amount), (customer, -amount)]
        decision = carry_out(self.book, posting(f"f{self.count}", *lines), self.now)
        if self.reference.why_not(lines) is None:
            assert isinstance(decision, list)
            self._settle(decision[0].seq, f"f{self.count}", (tuple(lines), False), lines)

    @rule(minutes=st.integers(1, 30))
    def wait(self, minutes) -> None:
        """Time goes by; what it ends is still pending until an event says so."""
        self.minute += minutes

    @rule(
        payer=st.sampled_from(CUSTOMERS),
        payee=st.sampled_from(ACCOUNTS),
        amounts=st.lists(st.integers(1, 6), min_size=1, max_size=3),
        minutes=st.none() | st.integers(1, 60),
    )
    def hold(self, payer, payee, amounts, minutes) -> None:
        """Set money aside, in one or more lines."""
        self.count += 1
        lines = [*((payer, amount) for amount in amounts), (payee, -sum(amounts))]
        expires_at = None
        if minutes is not None:
            expires_at = timestamp(self.now + dt.timedelta(minutes=minutes))
        command = holding(f"h{self.count}", *lines, expires_at=expires_at)
        decision = carry_out(self.book, command, self.now)
        reason = self.reference.why_not(lines, pending=True)
        if reason is not None:
            assert isinstance(decision, Refusal)
            assert decision.code == reason
            return
        assert isinstance(decision, list)
        [event] = decision
        left = {(payer, True): sum(amounts), (payee, False): sum(amounts)}
        self.reference.held[event.seq] = left
        if minutes is not None:
            self.reference.expiry[event.seq] = self.minute + minutes

    def _some_hold(self, data) -> int | None:
        held = sorted(self.reference.held)
        return data.draw(st.sampled_from(held)) if held else None

    @rule(data=st.data(), whole=st.booleans(), amount=st.integers(1, 9), ends=st.booleans())
    def capture(self, data, whole, amount, ends) -> None:
        """Take from a hold, wholly or in part."""
        reference = self.reference
        if (seq := self._some_hold(data)) is None:
            return
        self.count += 1
        wanted = None if whole else amount
        command = capturing(f"c{self.count}", seq, wanted, ends_hold=ends)
        decision = carry_out(self.book, command, self.now)
        left = reference.held[seq]
        rest = sum(a for (_, debit), a in left.items() if debit)
        frozen = {"frozen": (True, False), "debits_frozen": (True,), "credits_frozen": (False,)}
        if any(debit in frozen.get(reference.status[name], ()) for name, debit in left):
            expected = "account_frozen"
        elif reference.expiry.get(seq, self.minute + 1) <= self.minute:
            expected = "hold_expired"
        elif not whole and amount > rest:
            expected = "hold_exceeded"
        else:
            assert isinstance(decision, list)
            [event] = decision
            lines = [
                (e.account, int(e.amount) if e.side == "debit" else -int(e.amount))
                for e in event.entries
            ]
            taken = sum(a for _, a in lines if a > 0)
            assert taken == (rest if whole else amount)
            assert sum(a for _, a in lines) == 0
            reference.posted[event.seq] = lines
            reference.reversed[event.seq] = 0
            for name, a in lines:
                left[name, a > 0] -= abs(a)
            assert min(left.values()) >= 0
            assert event.ends_hold == (ends or taken == rest)
            if event.ends_hold:
                del reference.held[seq]
            return
        assert isinstance(decision, Refusal)
        assert decision.code == expected

    @rule(data=st.data())
    def void(self, data) -> None:
        """Give back what is left of a hold, even of one whose time is over."""
        if (seq := self._some_hold(data)) is not None:
            self.count += 1
            assert isinstance(carry_out(self.book, voiding(f"v{self.count}", seq), self.now), list)
            del self.reference.held[seq]

    @rule(data=st.data())
    def expire(self, data) -> None:
        """The clock gives back what is left of a hold, and not before its time."""
        reference = self.reference
        if (seq := self._some_hold(data)) is None:
            return
        decision = carry_out(self.book, ExpireHold(seq, "writer"), self.now)
        if reference.expiry.get(seq, self.minute + 1) <= self.minute:
            assert isinstance(decision, list)
            del reference.held[seq]
        else:
            assert isinstance(decision, Refusal)

    @rule(account=st.sampled_from(ACCOUNTS), status=st.sampled_from(STATUSES))
    def change(self, account, status) -> None:
        """Freeze or thaw."""
        carry_out(self.book, ChangeAccount(account, status, "test", "key_test"))
        self.reference.status[account] = status

    @invariant()
    def balances_agree(self) -> None:
        """Balances, conservation, and no customer below zero."""
        reference = self.reference
        for name in [*ACCOUNTS, "receivable:shortfall"]:
            assert self.book.accounts[name].balance == reference.balance(name)
        accounts = self.book.accounts.values()
        assert sum(a.debits for a in accounts) == sum(a.credits for a in accounts)
        for name in CUSTOMERS:
            assert self.book.accounts[name].secured == reference.secured(name) >= 0
        assert sum(a.pending_debits for a in accounts) == sum(a.pending_credits for a in accounts)


TestBook = BookMachine.TestCase
TestBook.settings = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
