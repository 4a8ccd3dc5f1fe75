"""The judge itself: every lie of a ledger is found by the clients' histories."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from ledger_service.contract.events import (
    AccountChanged,
    HoldReleased,
    JournalEvent,
    encode,
    timestamp,
)
from ledger_service.domain.commands import ExpireHold, key_digest
from tests.asking import Ask
from tests.ledger_book import NOW, carry_out, command_of, entries, open_book
from tests.reference_ledger import AccountState
from tests.soak.history import Done, Heard, Refused, Sent
from tests.soak.judge import Judge, Judgement

PAYER, PAYEE, FBO = "customer:1:wallet", "customer:2:wallet", "bank:fbo"
FLOORS = {PAYER: 0, PAYEE: 0, FBO: None}
FIRST = 8
"""Where what is asked begins: behind ledger, accounts, and what the payer has to begin with."""
Journal = list[tuple[int, bytes]]
Records = list[Sent | Heard]


def cent(key: str) -> Ask:
    return Ask(key, "post", [(PAYER, 1), (PAYEE, -1)])


FUNDS = Ask("funds", "post", [(FBO, 100), (PAYER, -100)])


def played(*asks: Ask) -> list[JournalEvent]:
    """What an honest ledger records, one second after the other."""
    book = open_book(PAYER, PAYEE, FBO, floor="0")
    events: list[JournalEvent] = [_opening(seq) for seq in range(1, book.seq + 1)]
    for second, ask in enumerate([FUNDS, *asks]):
        found = carry_out(book, command_of(ask), NOW + dt.timedelta(seconds=second))
        assert isinstance(found, list), found
        events += found
    return events


def _opening(seq: int) -> JournalEvent:
    from ledger_service.contract.events import AccountOpened

    return AccountOpened(
        ledger="simulated",
        seq=seq,
        recorded_at="2026-07-01T16:00:00.000000Z",
        actor="key_test",
        account=f"customer:{seq}:wallet",
        currency="USD",
        account_class="liability",
        normal_side="credit",
        custodial=True,
        gl_code="2100",
    )


def stored(events: list[JournalEvent]) -> Journal:
    return [(event.seq, encode(event)) for event in events]


def journal(*keys: str) -> Journal:
    """A cent a key."""
    return stored(played(*map(cent, keys)))


def heard_all(asks: list[Ask], events: list[JournalEvent]) -> Records:
    """A client that got an answer to each, one after the other."""
    records: Records = []
    for number, (ask, event) in enumerate(zip(asks, events, strict=True)):
        outcome = Done(event.seq, hashlib.sha256(encode(event)).hexdigest())
        records.append(Sent(number * 20, number, "single", [ask]))
        records.append(Heard(number * 20 + 10, number, [outcome]))
    return records


def history() -> Records:
    """Three transactions one after the other: two acknowledged, one whose answer was lost."""
    return [
        Sent(0, 0, "single", [FUNDS]),
        Heard(5, 0, [Done(FIRST - 1)]),
        Sent(10, 1, "single", [cent("a")]),
        Heard(20, 1, [Done(FIRST)]),
        Sent(30, 2, "single", [cent("b")]),
        Heard(40, 2, [Done(FIRST + 1)]),
        Sent(50, 3, "single", [cent("c")]),
        Heard(60, 3, [None]),
    ]


def judged(records: Records, stored: Journal) -> Judgement:
    judge = Judge("simulated", FLOORS)
    judge.hear(records)
    return judge.look_at(stored)


@pytest.mark.parametrize("keys", ["ab", "abc"])
def test_an_honest_ledger_is_not_accused(keys: str) -> None:
    result = judged(history(), journal(*keys))
    assert result.violations == []
    assert (result.acknowledged, result.found, result.absent) == (3, len(keys) - 2, 3 - len(keys))


LIES: dict[str, tuple[Callable[[], Journal], str]] = {
    "lost": (lambda: journal("a"), "b was acknowledged at 9 and stands at []"),
    "doubled": (lambda: [*journal("a", "b"), (10, journal("a", "b")[-1][1])], "seq 10"),
    "twice": (
        lambda: stored([*played(cent("a"), cent("b")), at(10, played(cent("a"))[-1])]),
        "a stands 2 times: [8, 10]",
    ),
    "gap": (lambda: [one for one in journal("a", "b", "c") if one[0] != 9], "seq 9 is missing"),
    "swapped": (lambda: journal("b", "a"), "a was acknowledged at 8 and stands at [9]"),
    "forged": (lambda: journal("a", "b", "x"), "seq 10 was sent by nobody"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_found(lie: str) -> None:
    stored, text = LIES[lie]
    found = judged(history(), stored()).violations
    assert any(text in violation for violation in found), found


def test_what_was_refused_must_not_be_there() -> None:
    records = history()
    records[-1] = Heard(60, 3, [Refused("floor_passed")])
    assert judged(records, journal("a", "b")).violations == []
    assert "c was refused" in judged(records, journal("a", "b", "c")).violations[0]


def test_another_content_is_found() -> None:
    records = history()
    records[2] = Sent(10, 1, "single", [Ask("a", "post", [(PAYER, 2), (PAYEE, -2)])])
    assert judged(records, journal("a", "b")).violations == ["a has another content than was sent"]


@pytest.mark.parametrize("form", ["linked", "linked_commands"])
def test_half_of_a_linked_batch_is_found(form: str) -> None:
    batch: Records = [Sent(10, 1, form, [cent("a"), cent("b")]), Heard(20, 1, [None, None])]
    records = [*history()[:2], *batch]
    assert judged(records, journal()).violations == []
    assert judged(records, journal("a", "b")).violations == []
    assert "linked batch" in judged(records, journal("a")).violations[0]


def test_what_was_answered_before_another_was_sent_stands_before_it() -> None:
    records = history()
    records[3] = Heard(20, 1, [Done(FIRST + 1)])
    records[5] = Heard(40, 2, [Done(FIRST)])
    found = judged(records, journal("b", "a")).violations
    assert found == ["a was answered at seq 9 before b was sent, which stands at 8"]
    records[4] = Sent(15, 2, "single", [cent("b")])
    assert judged(records, journal("b", "a")).violations == []


def test_an_answer_is_the_same_whenever_it_is_given_and_is_what_stands() -> None:
    events = played(cent("a"))
    records = heard_all([FUNDS, cent("a")], events[FIRST - 2 :])
    assert judged(records, stored(events)).violations == []
    records += [Sent(90, 9, "single", [cent("a")]), Heard(99, 9, [Done(FIRST, "ab" * 32)])]
    assert judged(records, stored(events)).violations == [
        "a was answered with two different events"
    ]
    events[-1] = msgspec.structs.replace(events[-1], actor="another")
    assert judged(records[:4], stored(events)).violations == [
        "a was answered with another event than stands at 8"
    ]


# --- holds, reversals, frozen accounts, what is imposed -----------------------------------------

HOLD = Ask("hold", "hold", [(PAYER, 40), (PAYEE, -40)],
           expires_at=timestamp(NOW + dt.timedelta(minutes=5)))  # fmt: skip
STORY = [
    HOLD,
    Ask("some", "capture", of=8, amount=15, ends_hold=False),
    Ask("more", "capture", of=8, amount=10, ends_hold=False),
    Ask("void", "void", of=8),
    Ask("undo", "reverse", of=9, amount=5, approval="apr_1", reversal="rev_1"),
    Ask("shut", "status", account=PAYEE, status="frozen"),
    Ask("fees", "post", [(PAYER, 200), (FBO, -200)], imposed=True),
]
"""From seq 8 on."""
EXPIRY = 9
"""Where a hold that was placed at seq 8 expires, if nothing else happens."""


def at(seq: int, event: JournalEvent, key: str = "", **changes: Any) -> JournalEvent:
    """An event as it should not be."""
    if key and not isinstance(event, AccountChanged):
        changes["idempotency_digest"] = key_digest("simulated", key).hex()
    return msgspec.structs.replace(event, seq=seq, **changes)


def moved(*lines: tuple[str, int]) -> dict[str, Any]:
    return {"entries": entries(*lines)}


def told(asks: list[Ask], events: list[JournalEvent]) -> list[str]:
    """Violations, where the client heard what stands."""
    judge = Judge("simulated", FLOORS)
    judge.hear(heard_all([FUNDS, *asks], events[FIRST - 2 :][: len(asks) + 1]))
    return judge.look_at(stored(events)).violations


def test_a_story_of_holds_and_reversals_is_not_accused() -> None:
    events = played(*STORY)
    judge = Judge("simulated", FLOORS)
    judge.hear(heard_all([FUNDS, *STORY], events[FIRST - 2 :]))
    result = judge.look_at(stored(events))
    assert result.violations == []
    assert result.done == {"post": 2, "hold": 1, "capture": 2, "void": 1, "reverse": 1, "status": 1}
    owed = AccountState(120, 0, 0, "open")
    books = {
        PAYER: AccountState(0, 0, 0, "open"),
        PAYEE: AccountState(-20, 0, 0, "frozen"),
        FBO: AccountState(-100, 0, 0, "open"),
        "receivable:shortfall": owed,
    }
    judge.compare_accounts(books)
    assert result.violations == []
    judge.compare_accounts({**books, "receivable:shortfall": owed._replace(pending_debits=1)})
    judge.compare_accounts({**books, PAYEE: books[PAYEE]._replace(status="open")})
    assert [text.split()[0] for text in result.violations] == ["receivable:shortfall", PAYEE]


def _changed(number: int, ask: Ask, **changes: Any) -> tuple[list[Ask], list[JournalEvent]]:
    """The story up to `number`, where the ledger took `ask` in the place of what stood there."""
    events = played(*STORY[: number + 1])
    events[-1] = at(events[-1].seq, events[-1], ask.key, **changes)
    return [*STORY[:number], ask], events


AGAINST_THE_RULES: dict[str, tuple[tuple[list[Ask], list[JournalEvent]], str]] = {
    "captured beyond the hold": (
        _changed(2, Ask("x", "capture", of=8, amount=26), **moved((PAYER, 26), (PAYEE, -26))),
        "x stands at 10, and had to be refused: hold_exceeded",
    ),
    "held beyond the floor": (
        _changed(0, Ask("x", "hold", [(PAYER, 101), (PAYEE, -101)]), expires_at=None,
                 **moved((PAYER, 101), (PAYEE, -101))),
        "x stands at 8, and had to be refused: floor_passed",
    ),
    "reversed beyond the original": (
        _changed(4, Ask("x", "reverse", of=9, amount=16), **moved((PAYEE, 16), (PAYER, -16))),
        "x stands at 12, and had to be refused: reversal_exceeds",
    ),
    "imposed without what is owed": (
        _changed(6, STORY[6], **moved((PAYER, 200), (FBO, -200))),
        "fees has another content than was sent",
    ),
    "another amount": (
        _changed(1, STORY[1], **moved((PAYER, 14), (PAYEE, -14))),
        "some has another content than was sent",
    ),
    "another hold": (_changed(1, STORY[1], captures=7), "some has another content than was sent"),
    "another original": (
        _changed(4, STORY[4], reverses=7),
        "undo has another content than was sent",
    ),
    "another status": (
        _changed(5, STORY[5], status="closed"),
        "shut has another content than was sent",
    ),
    "another end": (_changed(0, HOLD, expires_at=None), "hold has another content than was sent"),
    "given back what was not left": (
        _changed(3, STORY[3], **moved((PAYER, 40), (PAYEE, -40))),
        "void has another content than was sent",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", AGAINST_THE_RULES)
def test_what_is_against_the_rules_is_found(case: str) -> None:
    (asks, events), text = AGAINST_THE_RULES[case]
    assert told(asks, events) == [text]


def test_a_capture_after_the_end_of_its_hold_is_found() -> None:
    late = Ask("late", "capture", of=8, amount=3)
    events = played(*STORY[:4])
    capture = at(12, events[8], "late", **moved((PAYER, 3), (PAYEE, -3)))
    found = told([*STORY[:4], late], [*events, capture])
    assert "late stands at 12, and had to be refused: hold_ended" in found
    events = played(HOLD)
    after = timestamp(NOW + dt.timedelta(minutes=5))
    capture = at(9, capture, "late", recorded_at=after)
    assert told([HOLD, late], [*events, capture]) == [
        "late stands at 9, and had to be refused: hold_expired"
    ]


def test_what_a_frozen_account_took_is_found() -> None:
    shut, pay = STORY[5], cent("pay")
    events = [*played(shut), at(9, played(pay)[-1])]
    events[-1] = at(9, events[-1], recorded_at=events[-2].recorded_at)
    assert told([shut, pay], events) == ["pay stands at 9, and had to be refused: account_frozen"]


def test_a_status_that_was_acknowledged_is_there() -> None:
    shut = STORY[5]
    records: Records = [Sent(10, 1, "single", [shut]), Heard(20, 1, [Done(0)])]
    assert judged([*history()[:2], *records], stored(played(shut))).violations == []
    assert judged([*history()[:2], *records], journal()).violations == [
        "shut was acknowledged at 0 and stands at []"
    ]


def _expired(seconds: int, **changes: Any) -> list[JournalEvent]:
    book = open_book(PAYER, PAYEE, FBO, floor="0")
    for ask in (FUNDS, HOLD):
        carry_out(book, command_of(ask))
    released = carry_out(book, ExpireHold(8, "writer"), NOW + dt.timedelta(minutes=5))
    assert isinstance(released, list)
    [event] = released
    assert isinstance(event, HoldReleased)
    moment = timestamp(NOW + dt.timedelta(seconds=seconds))
    return [*played(HOLD), at(EXPIRY, event, recorded_at=moment, **changes)]


def test_a_hold_expires_at_its_time_with_all_that_is_left() -> None:
    assert told([HOLD], _expired(300)) == []
    assert told([HOLD], _expired(299)) == ["the hold of seq 8 expired at 9: hold_not_expired"]
    assert told([HOLD], _expired(300, **moved((PAYER, 39), (PAYEE, -39)))) == [
        "the hold of seq 8 gave back at 9 what was not left of it"
    ]
    assert told([HOLD], _expired(300, hold=7)) == ["the hold of seq 7 expired at 9: unknown_hold"]
