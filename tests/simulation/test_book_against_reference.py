"""The book against a slow, obvious ledger: whatever happens, both say the same."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ledger_service.contract.events import TransactionPosted
from ledger_service.domain.book import Replay
from ledger_service.domain.commands import ChangeAccount
from ledger_service.domain.errors import Refusal
from tests.ledger_book import carry_out, open_book, posting, reversing

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
        self.status = dict.fromkeys([*ACCOUNTS, "receivable:shortfall"], "open")

    def balance(self, account: str) -> int:
        """On the normal side."""
        total = sum(a for lines in self.posted.values() for name, a in lines if name == account)
        return total if account in DEBIT_NORMAL else -total

    def why_not(self, lines: list[tuple[str, int]], *, imposed: bool = False) -> str | None:
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
            change = -sum(amount for other, amount in lines if other == name)
            if change < 0 and self.balance(name) + change < 0:
                return "floor_passed"
        return None


class BookMachine(RuleBasedStateMachine):
    """Random commands to both."""

    def __init__(self) -> None:
        super().__init__()
        self.book = open_book(*ACCOUNTS, floor="0")
        self.reference = ReferenceLedger()
        self.count = 0

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
        rest = -sum(amount for _, amount in lines)
        lines = [*lines, (last, rest + (skewed == 0))]
        lines = [line for line in lines if line[1]]
        if len(lines) < 2:
            return
        name, reference = f"k{key}", self.reference
        command = posting(name, *lines, imposed=imposed)
        decision = carry_out(self.book, command)
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
                short = min(-(reference.balance(customer) + change), -change)
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
        decision = carry_out(self.book, reversing(name, seq, None if whole else amount))
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
        assert all(self.book.accounts[name].balance >= 0 for name in CUSTOMERS)


TestBook = BookMachine.TestCase
TestBook.settings = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
