"""The book against a slow, obvious ledger: whatever happens, both say the same."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import rule

from ledger_service.contract.events import JournalEvent, encode
from ledger_service.domain.book import Decision, Replay
from ledger_service.domain.commands import ExpireHold
from ledger_service.domain.errors import Refusal
from tests.asking import Ask
from tests.ledger_book import NOW, carry_out, command_of, open_book
from tests.reference_ledger import AccountState
from tests.simulation.ledger_rules import ACCOUNTS, Answer, LedgerMachine


class PureLedger:
    """A book and a clock of its own."""

    name = "simulated"
    tick = dt.timedelta(minutes=1)

    def __init__(self) -> None:
        self.book = open_book(*ACCOUNTS, floor="0")
        self._minute = 0
        self._raws: dict[int, bytes] = {}
        self._news: list[JournalEvent] = []

    def now(self) -> dt.datetime:
        return NOW + self._minute * self.tick

    def wait(self, ticks: int) -> None:
        self._minute += ticks

    def ask(self, ask: Ask) -> Answer:
        decision = carry_out(self.book, command_of(ask), self.now())
        if ask.dry_run and isinstance(decision, list):
            return Answer(None, is_dry=True)
        return self._answer(decision)

    def ask_linked(self, asks: Sequence[Ask], *, dry: bool) -> list[Answer]:
        self.book.begin()
        answers: list[Answer] = []
        for ask in asks:
            answers.append(self.ask(ask))
            if answers[-1].code is not None:
                self._take_back()
                others = [Answer("linked_batch_refused")] * len(asks)
                return [*others[: len(answers) - 1], answers[-1], *others[len(answers) :]]
        if not dry:
            self.book.keep()
            return answers
        self._take_back()
        return [one if one.is_replay else Answer(None, is_dry=True) for one in answers]

    def _take_back(self) -> None:
        self.book.take_back()
        self._news = [event for event in self._news if event.seq <= self.book.seq]
        for seq in [seq for seq in self.book.originals if seq > self.book.seq]:
            del self.book.originals[seq]

    def _answer(self, decision: Decision) -> Answer:
        if isinstance(decision, Refusal):
            return Answer(decision.code)
        if isinstance(decision, Replay):
            return Answer(None, self._raws.get(decision.seq, b""), is_replay=True)
        self._news += decision
        self._raws[decision[0].seq] = encode(decision[0])
        return Answer(None, encode(decision[0]))

    def expire(self, hold: int) -> Answer:
        """The server's clock asks for the end of a hold."""
        return self._answer(carry_out(self.book, ExpireHold(hold, "writer"), self.now()))

    def news(self) -> list[JournalEvent]:
        news, self._news = self._news, []
        return news

    def accounts(self) -> dict[str, AccountState]:
        return {
            name: AccountState(
                account.debits - account.credits,
                account.pending_debits,
                account.pending_credits,
                account.status,
            )
            for name, account in self.book.accounts.items()
            if account.currency == "USD"
        }


class BookMachine(LedgerMachine):
    """The rules, and the clock as one more caller."""

    ledger: PureLedger

    def __init__(self) -> None:
        super().__init__(PureLedger())

    @rule(ticks=st.integers(1, 20))
    def set_back(self, ticks) -> None:
        """The server's clock was ahead, and is put right."""
        self.ledger.wait(-ticks)

    @rule(data=st.data())
    def expire(self, data) -> None:
        """The clock gives back what is left of a hold, and not before its time."""
        if seq := self._some(data, self.reference.held):
            why_not = self.reference.why_not_expire(seq, self._moment())
            assert (self.ledger.expire(seq).code is None) == (why_not is None)


TestBook = BookMachine.TestCase
TestBook.settings = settings(
    max_examples=120,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
