"""The rules by which any ledger is held against the reference: the pure book, or the service over HTTP.

A `Ledger` is what is driven. The rules are the same whichever it is; where the server's own clock
may end a hold between a question and its answer, either answer is right, and what was recorded
tells which it was.
"""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ledger_service.contract.events import (
    HoldReleased,
    JournalEvent,
    TransactionPosted,
    decode_journal,
    timestamp,
)
from tests.asking import Ask, Line
from tests.reference_ledger import AccountState, ReferenceLedger, legs_of, signed

CUSTOMERS = [f"customer:{number}:wallet" for number in range(3)]
FLOORS: dict[str, int | None] = {
    **dict.fromkeys(CUSTOMERS, 0),
    "bank:fbo": None,
    "clearing:ach": None,
}
ACCOUNTS = [*FLOORS]
# Mostly open, and small amounts: so that limits, not frozen accounts, decide.
STATUSES = [*["open"] * 9, "frozen", "debits_frozen", "credits_frozen"]
DAYS = st.sampled_from([*[None] * 7, *range(2, 9)])
"""How long ago it counts; mostly now."""
DRY = st.sampled_from([False, False, False, True])
LINES = st.lists(
    st.tuples(st.sampled_from(ACCOUNTS), st.integers(-6, 6).filter(bool)), min_size=1, max_size=4
)


class Answer(NamedTuple):
    """What a ledger says: a refusal's code, or the event's canonical bytes."""

    code: str | None
    raw: bytes = b""
    is_replay: bool = False
    is_dry: bool = False


class Ledger(Protocol):
    """A ledger with the accounts of `FLOORS`, open and empty."""

    name: str
    tick: dt.timedelta
    """The unit of time in which holds live."""

    def now(self) -> dt.datetime:
        """The moment on its clock."""
        ...

    def wait(self, ticks: int) -> None:
        """Let time go by."""
        ...

    def ask(self, ask: Ask) -> Answer:
        """One command; what needs a second person's approval gets it."""
        ...

    def ask_linked(self, asks: Sequence[Ask], *, dry: bool) -> list[Answer]:
        """All of them or none; `dry`: none, and whether all could be."""
        ...

    def news(self) -> list[JournalEvent]:
        """What was recorded since this was called the last time."""
        ...

    def accounts(self) -> dict[str, AccountState]:
        """Every account as it is stated."""
        ...


class LedgerMachine(RuleBasedStateMachine):
    """Random commands to both."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger
        self.reference = ReferenceLedger(FLOORS)
        self.first: dict[str, bytes] = {}
        self.count = 0
        self.ended: list[HoldReleased] = []
        """By the clock, and not taken into account yet."""
        self.recorded_at = ""
        self._hear()
        self.recorded_at = self.recorded_at or self._moment()

    # --- asking ---------------------------------------------------------------------------------

    def _key(self) -> str:
        self.count += 1
        return f"n{self.count}"

    def _approval(self, key: str) -> str:
        return f"apr_{self.ledger.name}_{key}"

    def _moment(self) -> str:
        """The ledger's own time: its clock, and never before what is recorded."""
        return max(timestamp(self.ledger.now()), self.recorded_at)

    def _hear(self) -> None:
        news = self.ledger.news()
        for event in news:
            assert event.recorded_at >= self.recorded_at
            self.recorded_at = event.recorded_at
        self.ended += [
            one for one in news if isinstance(one, HoldReleased) and one.cause == "expired"
        ]

    def _catch_up(self, before: int | None = None) -> None:
        """Let holds end that the clock has ended, of those recorded before event `before`."""
        self._hear()
        while self.ended and (before is None or self.ended[0].seq < before):
            event = self.ended.pop(0)
            assert self.reference.why_not_expire(event.hold, event.recorded_at) is None
            assert legs_of(signed(event.entries)) == self.reference.held[event.hold].left
            self.reference.release(event.hold)

    def _expected(self, ask: Ask) -> int | str | None:
        first = self.reference.first_answer(ask)
        return self.reference.why_not(ask, self._moment()) if first is None else first

    def _carry_out(self, ask: Ask) -> None:
        """Ask both, and compare."""
        self._catch_up()
        before = self._expected(ask)
        answer = self.ledger.ask(ask)
        if answer.code is not None or answer.is_dry or answer.is_replay or not answer.raw:
            self._catch_up()
            self._compare(ask, answer, {before, self._expected(ask)})
            return
        event = decode_journal(answer.raw)
        self._catch_up(event.seq)
        assert self.reference.first_answer(ask) is None
        why_not = self.reference.why_not(ask, event.recorded_at)
        assert why_not is None, why_not
        self._take(ask, event, answer.raw)

    def _compare(self, ask: Ask, answer: Answer, expected: set[int | str | None]) -> None:
        """An answer that recorded nothing."""
        if answer.code is not None:
            assert answer.code in expected, (answer.code, expected)
        elif answer.is_dry:
            assert None in expected
        elif ask.key in self.first:
            # a replay is the first answer, byte for byte
            assert answer.raw == self.first[ask.key]
            assert decode_journal(answer.raw).seq in expected
        else:
            assert None in expected, expected
            self.reference.take(0, ask)

    def _take(self, ask: Ask, event: JournalEvent, raw: bytes) -> None:
        """Something was done: it moves exactly what the reference says."""
        reference = self.reference
        entries = getattr(event, "entries", None)
        if entries is not None:
            assert legs_of(signed(entries)) == legs_of(reference.lines_of(ask))
        if isinstance(event, TransactionPosted) and ask.do == "capture":
            is_all = legs_of(signed(event.entries)) == reference.held[ask.of].left
            assert event.ends_hold == (ask.ends_hold or is_all)
        self.first[ask.key] = raw
        reference.take(event.seq, ask)

    # --- rules ----------------------------------------------------------------------------------

    def _day(self, days: int | None) -> str | None:
        if days is None:
            return None
        return (self.ledger.now() - dt.timedelta(days=days)).date().isoformat()

    def _noon(self, days: int | None) -> str | None:
        day = self._day(days)
        return day and f"{day}T16:00:00.000000Z"

    @rule(
        key=st.integers(0, 400), imposed=st.booleans(), lines=LINES,
        last=st.sampled_from(ACCOUNTS), skewed=st.integers(0, 9), days=DAYS, dry=DRY,
    )  # fmt: skip
    def post(self, *, key, imposed, lines, last, skewed, days, dry) -> None:
        """Post lines that balance, nine times of ten."""
        # the outside world asks for more than there is
        lines = [(account, amount * (10 if imposed else 1)) for account, amount in lines]
        rest = -sum(amount for _, amount in lines)
        lines = [line for line in [*lines, (last, rest + (skewed == 0))] if line[1]]
        if len(lines) > 1:
            ask = Ask(
                f"k{key}",
                "post",
                lines,
                imposed=imposed,
                dry_run=dry,
                effective_at=self._noon(days),
            )
            self._carry_out(ask)

    @initialize(amounts=st.tuples(*[st.integers(0, 60)] * len(CUSTOMERS)))
    def begin(self, amounts) -> None:
        """Bring money from outside, so that there is something to hold and to lose."""
        for customer, amount in zip(CUSTOMERS, amounts, strict=True):
            if amount:
                self.fund(customer, amount)

    @rule(customer=st.sampled_from(CUSTOMERS), amount=st.integers(5, 40))
    def fund(self, customer, amount) -> None:
        """Bring more."""
        self._carry_out(Ask(self._key(), "post", [("bank:fbo", amount), (customer, -amount)]))

    def _some(self, data, among):
        """One of several, None of none. What is drawn does not depend on how many there are: that may
        hang on a server's clock, and a draw that differs the next time can't be played again."""
        number, known = data.draw(st.integers(0, 9_999)), sorted(among)
        return known[number % len(known)] if known else None

    @rule(data=st.data(), amount=st.none() | st.integers(1, 9), dry=DRY)
    def reverse(self, data, amount, dry) -> None:
        """Reverse a transaction, wholly or in part."""
        if seq := self._some(data, self.reference.posted):
            key = self._key()
            ask = Ask(
                key,
                "reverse",
                of=seq,
                amount=amount,
                approval=self._approval(key),
                reversal="rev_1",
                dry_run=dry,
            )
            self._carry_out(ask)

    @rule(data=st.data(), amount=st.integers(1, 9), days=DAYS, dry=DRY)
    def correct(self, data, amount, days, dry) -> None:
        """Correct a booking on a day that has gone."""
        if days and (seq := self._some(data, self.reference.posted)):
            key, lines = self._key(), [("clearing:ach", amount), ("bank:fbo", -amount)]
            ask = Ask(key, "post", lines, effective_at=self._noon(days), corrects=seq,
                      approval=self._approval(key), dry_run=dry)  # fmt: skip
            self._carry_out(ask)

    @rule(
        payer=st.sampled_from(CUSTOMERS), payee=st.sampled_from(ACCOUNTS),
        amounts=st.lists(st.integers(1, 6), min_size=1, max_size=3),
        ticks=st.none() | st.integers(1, 12), dry=DRY,
    )  # fmt: skip
    def hold(self, payer, payee, amounts, ticks, dry) -> None:
        """Set money aside, in one or more lines."""
        lines = [*((payer, amount) for amount in amounts), (payee, -sum(amounts))]
        self._carry_out(self._hold(lines, ticks, dry=dry))

    def _hold(self, lines: list[Line], ticks: int | None, *, dry: bool = False) -> Ask:
        ends = None if ticks is None else timestamp(self.ledger.now() + ticks * self.ledger.tick)
        return Ask(self._key(), "hold", lines, expires_at=ends, dry_run=dry)

    @rule(
        data=st.data(), amount=st.none() | st.integers(1, 9), ends=st.booleans(), days=DAYS, dry=DRY,
    )  # fmt: skip
    def capture(self, data, amount, ends, days, dry) -> None:
        """Take from a hold, wholly or in part; mostly from one that is open."""
        if seq := self._some(data, [*self.reference.held, *self.reference.open_holds() * 3]):
            ask = Ask(self._key(), "capture", of=seq, amount=amount, ends_hold=ends,
                      effective_at=self._noon(days), dry_run=dry)  # fmt: skip
            self._carry_out(ask)

    @rule(data=st.data(), dry=DRY)
    def void(self, data, dry) -> None:
        """Give back what is left of a hold, even of one whose time is over."""
        if seq := self._some(data, self.reference.held):
            self._carry_out(Ask(self._key(), "void", of=seq, dry_run=dry))

    @rule(data=st.data())
    def again(self, data) -> None:
        """The same question gives the same answer, whatever has happened since."""
        if key := self._some(data, self.reference.keys):
            self._carry_out(self.reference.keys[key][1])

    @rule(
        data=st.data(), size=st.integers(2, 4), amounts=st.lists(st.integers(1, 12), min_size=4,
        max_size=4), kinds=st.lists(st.sampled_from(["post", "hold", "capture", "void", "again"]),
        min_size=4, max_size=4), payers=st.lists(st.sampled_from(CUSTOMERS), min_size=4, max_size=4),
        dry=DRY,
    )  # fmt: skip
    def link(self, *, data, size, amounts, kinds, payers, dry) -> None:
        """Several commands, all or nothing; or whether all could be done, one upon the other."""
        self._catch_up()
        asks: list[Ask] = []
        for kind, amount, payer in list(zip(kinds, amounts, payers, strict=True))[:size]:
            held = self._some(data, self.reference.open_holds())
            key = self._some(data, self.reference.keys)
            if kind == "again" and key:
                asks.append(self.reference.keys[key][1])
            elif kind == "capture" and held:
                asks.append(Ask(self._key(), "capture", of=held, amount=amount, ends_hold=False))
            elif kind == "void" and held:
                asks.append(Ask(self._key(), "void", of=held))
            else:
                lines = [(payer, amount), ("clearing:ach", -amount)]
                do = "hold" if kind == "hold" else "post"
                asks.append(Ask(self._key(), do, lines))
        asks = [ask for ask in asks if ask.do in ("post", "hold", "capture", "void")
                and not ask.corrects]  # fmt: skip
        if asks:
            self._carry_out_linked(asks, dry=dry)

    def _linked(self, asks: Sequence[Ask]) -> tuple[list[str | None], ReferenceLedger]:
        """Codes as the reference gives them, and where it stands if there are none."""
        after, seq = copy.deepcopy(self.reference), self._next_seq()
        for number, ask in enumerate(asks):
            if isinstance(first := after.first_answer(ask), int):
                continue
            if code := first or after.why_not(ask, self._moment()):
                codes: list[str | None] = ["linked_batch_refused"] * len(asks)
                codes[number] = code
                return codes, self.reference
            after.take(seq, ask)
            seq += 1
        return [None] * len(asks), after

    def _next_seq(self) -> int:
        """Not known where the clock records things of its own: what is linked names none of it."""
        return max([0, *self.reference.posted, *self.reference.held]) + 10_000

    def _carry_out_linked(self, asks: Sequence[Ask], *, dry: bool) -> None:
        before, _ = self._linked(asks)
        answers = self.ledger.ask_linked(asks, dry=dry)
        codes = [answer.code for answer in answers]
        if dry or any(codes):
            assert all(one.is_dry or one.is_replay or one.code is not None for one in answers)
            self._catch_up()
            assert codes in (before, self._linked(asks)[0])
            return
        events = [decode_journal(answer.raw) for answer in answers]
        new = [event.seq for event, answer in zip(events, answers, strict=True)
               if not answer.is_replay]  # fmt: skip
        assert new == [*range(new[0], new[0] + len(new))] if new else True
        if new:
            self._catch_up(new[0])
        for ask, event, answer in zip(asks, events, answers, strict=True):
            if answer.is_replay:
                assert answer.raw == self.first[ask.key]
                assert self.reference.first_answer(ask) == event.seq
            else:
                why_not = self.reference.why_not(ask, event.recorded_at)
                assert why_not is None, why_not
                self._take(ask, event, answer.raw)

    @rule(account=st.sampled_from(ACCOUNTS), status=st.sampled_from(STATUSES), dry=DRY)
    def change(self, account, status, dry) -> None:
        """Freeze or thaw."""
        self._carry_out(Ask(self._key(), "status", account=account, status=status, dry_run=dry))

    @rule(days=st.integers(2, 9), do=st.sampled_from(["soft_close", "close", "reopen"]), dry=DRY)
    def close_or_reopen(self, days, do, dry) -> None:
        """Close the books up to a day, or reopen them from it on."""
        key = self._key()
        self._carry_out(
            Ask(key, do, day=self._day(days) or "", approval=self._approval(key), dry_run=dry)
        )

    @rule(ticks=st.integers(1, 30))
    def wait(self, ticks) -> None:
        """Time goes by; what it ends is still pending until an event says so."""
        self.ledger.wait(ticks)

    @invariant()
    def accounts_agree(self) -> None:
        """Balances, what is pending, conservation, and no customer below zero."""
        self._catch_up()
        stated = self.ledger.accounts()
        self._hear()
        while self.ended:  # in between
            self._catch_up()
            stated = self.ledger.accounts()
            self._hear()
        assert stated == self.reference.accounts()
        assert sum(account.debits for account in stated.values()) == 0
        assert all(self.reference.secured(name) >= 0 for name in CUSTOMERS)
        self.reference.recount()
