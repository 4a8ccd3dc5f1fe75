"""The compiled lane against the book alone: the same verdicts, the same bytes, the same rows, always."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from ledger_service.contract.events import Context, Entry, Rate
from ledger_service.domain import memory
from ledger_service.domain.account import Account
from ledger_service.domain.commands import (
    Command,
    OpenAccount,
    PostTransaction,
    capture_hold,
    place_hold,
    post_transaction,
)
from ledger_service.domain.period_commands import SoftClosePeriod
from ledger_service.engine import copy_format, fast
from ledger_service.engine.batch import Batch
from ledger_service.engine.deciding import Submission, decide_all
from ledger_service.engine.merkle import Tree
from ledger_service.engine.protocol import Refused
from tests.ledger_book import NOW, arrived, open_book

TAKES = "takes a C compiler at installation"
lane = pytest.importorskip("ledger_service.engine.lane", reason=TAKES)
plain = pytest.importorskip("ledger_service.engine.plain", reason=TAKES)
compiled_rows = pytest.importorskip("ledger_service.engine.rows", reason=TAKES)

A, B, FROZEN, EURO = (
    "customer:1:wallet",
    "customer:2:wallet",
    "customer:3:wallet",
    "customer:4:wallet",
)
ACCOUNTS = (A, B, FROZEN, "bank:fbo", EURO, "customer:nobody:wallet")
MOST = str(2**63 - 1)


def transfer(debited: str, credited: str, amount: str, currency: str = "USD") -> list[Entry]:
    return [Entry(debited, "debit", amount, currency), Entry(credited, "credit", amount, currency)]


def legs_of(*legs: tuple[str, int]) -> list[Entry]:
    return [
        Entry(name, "debit" if amount > 0 else "credit", str(abs(amount)), "USD")
        for name, amount in legs
    ]


names = st.sampled_from(ACCOUNTS[:4])
money = st.sampled_from(("1", "1", "5", "50", "99", "100"))
transfers = st.one_of(
    st.builds(transfer, names, names, money),
    st.builds(transfer, st.just(A), st.just(B), money),
    st.builds(transfer, st.just(B), st.just(A), money),
)
ODD_ENTRIES = [
    legs_of((A, 7), (B, -3), (B, -4)),
    legs_of((A, 150), (A, -60), (B, -90)),
    *(legs_of((A, 7), (B, amount)) for amount in (-6, -8, 7)),
    *(transfer(A, B, amount) for amount in ("07", "0", "", "-1", "1e2", "٣", MOST)),
    *(transfer(A, B, amount) for amount in ("9" * 19, "1" * 20, str(2**63))),
    transfer("bank:fbo", B, "2" + "0" * 19),
    *(transfer(A, name, "5") for name in ACCOUNTS),
    *(transfer(name, A, "5") for name in ACCOUNTS),
    *(transfer(A, B, "5", currency) for currency in ("EUR", "XXX")),
    [Entry(A, "debit", "5", "USD"), Entry(B, "credit", "5", "EUR")],
    [Entry(A, "debit", "5", "EUR"), Entry(B, "credit", "5", "USD")],
    legs_of(*[(A, 1), (B, -1)] * 7, (A, 2), (B, -2)),
    legs_of(*[(A, 1), (B, -1)] * 9),
    legs_of((A, 5)),
]
odd_entries = st.one_of(
    st.sampled_from(ODD_ENTRIES),
    st.builds(legs_of, st.just((A, 7)), st.just((B, -3)), st.tuples(names, st.just(-4))),
    st.builds(transfer, names, names, st.sampled_from(("07", "0", "", MOST))),
)
contexts = st.builds(
    Context,
    st.sampled_from(("ach", "internal")),
    st.sampled_from((None, "pty_1", "mü", 'a"b', "123456789")),
    counterparty_country=st.sampled_from((None, "US", "Utah")),
    rail_reference=st.sampled_from((None, "R/1", "4111 1111 1111 1111")),
)
oddities: dict[str, Any] = {
    "entries": odd_entries,
    "context": contexts,
    "kind": st.sampled_from(("payroll", "bribe", "reversal")),
    "actor": st.sampled_from(('ke"y', "schlüssel", "k\\1", "k\n", "k\x7f")),
    "request_id": st.sampled_from(("12345678-1234", "r\t")),
    "metadata": st.sampled_from(({"invoice": "ü\n"}, {"who": "x"}, {"invoice": "123456789"})),
    "effective_at": st.sampled_from(
        (
            "2026-07-01T15:00:00Z",
            "2026-06-20T12:00:00.5+02:00",
            "2026-05-01T00:00:00Z",
            "2027-01-01T00:00:00Z",
            "now",
        )
    ),
    "imposed": st.sampled_from((True,)),
    "dry_run": st.sampled_from((True,)),
    "corrects": st.just(3),
    "approval": st.just("apr_1"),
    "rate": st.just(Rate("USD", "EUR", "9", "10")),
}
"""What a posting may have besides, or instead: each by itself, so that nothing else hides it."""
odd = st.sampled_from(sorted(oddities)).flatmap(
    lambda name: st.fixed_dictionaries({name: oddities[name]})
)


def post(key: int, entries: list[Entry], oddity: dict[str, Any]) -> PostTransaction:
    ordinary = {"kind": "transfer", "actor": "key_1", "entries": entries}
    return post_transaction("simulated", str(key), **{**ordinary, **oddity})


posts = st.builds(post, st.integers(1, 60), transfers, st.one_of(st.just({}), st.just({}), odd))
others: st.SearchStrategy[Command] = st.one_of(
    st.just(OpenAccount("customer:5:wallet", "USD", "usr_1")),
    st.just(SoftClosePeriod("2026-06-25", "usr_1")),
    st.builds(
        lambda key: place_hold(
            "simulated", f"h{key}", kind="transfer", entries=transfer(A, B, "5"), actor="k"
        ),
        st.integers(1, 3),
    ),
    st.builds(
        lambda key, hold: capture_hold("simulated", f"c{key}", hold=hold, actor="k"),
        st.integers(1, 3),
        st.integers(8, 20),
    ),
)
submissions = st.lists(
    st.tuples(
        st.lists(st.one_of(posts, posts, posts, posts, others), min_size=1, max_size=20),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


PARTS = ("_book", "_tree", "transaction_row")
"""Of a batch, what is no row."""


def carry_out(asked: list[tuple[list[Command], bool]], compiled: Any) -> list[Any]:
    """All that a writer would see of each submission, one batch for each."""
    book, tree, seen = open_book(A, B, FROZEN, "bank:fbo", floor="-100"), Tree(), []
    book.accounts[A].ceiling, book.accounts[FROZEN].status = 150, "frozen"

    async def run() -> None:
        for number, (commands, with_events) in enumerate(asked):
            batch = Batch(book, tree)
            answer = asyncio.get_running_loop().create_future()
            of_one = arrived(commands) if compiled else commands
            submission = Submission(
                of_one,
                linked=False,
                deadline=time.monotonic() + 60,
                in_doubt=False,
                with_events=with_events,
                answer=answer,
            )
            now = NOW + dt.timedelta(seconds=number)
            lacks = lane.lacks_of(book, [of_one]) if compiled else memory.lacks_of(book, commands)
            seen.append(lacks)
            drafts = await decide_all(book, batch, [submission], now)
            seen.append([drafts, batch.balance_arrays(), batch.hold_rows(), batch.grow()])
            seen.append({name: what for name, what in vars(batch).items() if name not in PARTS})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "Lane", compiled)
        asyncio.run(run())
    seen.append((book.seq, book.recorded_at, list(book.accounts.items()), book.keys, book.holds))
    return seen


@settings(max_examples=200, deadline=None)
@given(submissions)
def test_the_lane_does_what_the_book_does(asked: list[tuple[list[Command], bool]]) -> None:
    assert carry_out(asked, lane.Lane) == carry_out(asked, None)


changes = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 255), st.sampled_from(("put", "insert", "cut"))),
    max_size=2,
)


@settings(max_examples=500)
@given(posts, changes)
def test_what_is_read_in_place_is_what_the_protocol_says(
    command: PostTransaction, damage: list[tuple[int, int, str]]
) -> None:
    """Also of a message that is damaged: the same command, or refused by both."""
    raw = bytearray(msgspec.msgpack.encode(command))
    for place, byte, how in damage:
        at = place % (len(raw) + 1)
        raw[at : at + (how != "insert")] = b"" if how == "cut" else bytes([byte])
    try:
        expected = [msgspec.msgpack.decode(bytes(raw), type=Command)]
    except (msgspec.DecodeError, UnicodeDecodeError):
        with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
            plain.Commands([msgspec.Raw(bytes(raw))])
    else:
        assert list(plain.Commands([msgspec.Raw(bytes(raw))])) == expected


ODDITIES: list[dict[str, Any]] = [
    *({"entries": entries} for entries in ODD_ENTRIES),
    *({"kind": kind} for kind in ("payroll", "bribe", "reversal")),
    *({"actor": actor} for actor in ('ke"y', "schlüssel", "k\\1", "k\n", "k\x7f")),
    *({"request_id": one} for one in ("12345678-1234", "r\t")),
    *({"metadata": one} for one in ({"invoice": "1"}, {"who": "x"}, {"invoice": "123456789"})),
    *({"context": Context("ach", one)} for one in ("pty_1", "mü", 'a"b', "123456789")),
    {"effective_at": "2026-06-20T12:00:00.5+02:00"}, {"effective_at": "2027-01-01T00:00:00Z"},
    {"effective_at": "now"}, {"imposed": True}, {"dry_run": True}, {"corrects": 3},
    {"approval": "apr_1"}, {"rate": Rate("USD", "EUR", "9", "10")},
]  # fmt: skip


@pytest.mark.parametrize("oddity", ODDITIES, ids=str)
def test_what_is_odd_is_as_the_book_says(oddity: dict[str, Any]) -> None:
    """Each by itself, among plain ones of other kinds, and once more as a replay."""
    one = post(2, transfer(A, B, "5"), oddity)
    asked: list[Command] = [
        post(1, transfer(B, A, "5"), {"kind": "fee"}), one, post(3, transfer(B, A, "5"), {}), one,
    ]  # fmt: skip
    assert carry_out([(asked, True)], lane.Lane) == carry_out([(asked, True)], None)


def test_a_side_that_is_none_is_refused() -> None:
    raw = msgspec.msgpack.encode(post(1, transfer(A, B, "5"), {}))
    for wrong in (b"cradit", b"debits"):
        with pytest.raises(msgspec.ValidationError):
            plain.Commands([msgspec.Raw(raw.replace(b"credit", wrong))])


def test_a_sum_may_grow_past_a_register() -> None:
    asked: list[Command] = [post(key, transfer("bank:fbo", B, MOST), {}) for key in range(4)]
    made = carry_out([(asked, False)], lane.Lane)
    assert made == carry_out([(asked, False)], None)
    assert dict(made[-1][2])[B].credits == 4 * int(MOST)


def test_limits_are_the_same_to_the_last_unit() -> None:
    moves = (100, 50, 1, -150, -100, -1)  # the ceiling is 150, the floor -100
    asked: list[Command] = [
        post(key, legs_of((A, -amount), ("bank:fbo", amount)), {})
        for key, amount in enumerate(moves)
    ]
    asked.append(post(7, legs_of((A, 1), ("bank:fbo", -1)), {}))
    asked.append(post(8, legs_of((A, -60), ("bank:fbo", 60)), {}))
    asked.append(post(9, legs_of((A, 40), (A, 40), ("bank:fbo", -80)), {}))
    drafts = carry_out([(asked, False)], lane.Lane)[1][0][0]
    assert [isinstance(draft, Refused) for draft in drafts] == [
        *[False, False, True] * 2,
        True,
        False,
        True,
    ]
    assert carry_out([(asked, False)], lane.Lane) == carry_out([(asked, False)], None)


def test_the_lane_takes_what_is_plain_itself() -> None:
    book = open_book(A, B)
    batch, drafts = Batch(book, Tree()), []
    taken: list[Command] = [
        post_transaction(
            "simulated", str(number), kind="transfer", entries=transfer(A, B, "5"), actor="key_1",
            context=Context("ach", "pty_1", None, "US", "REF 1"), metadata={"invoice": "1"},
            effective_at="2026-06-20T12:00:00Z",
        )
        for number in range(3)
    ]  # fmt: skip
    refused = post_transaction(
        "simulated", "4", kind="transfer", entries=transfer(A, A, "0"), actor="k"
    )
    place = lane.Lane(book, batch, NOW).take(
        arrived([*taken, refused, *taken]), 0, 7, with_events=True, drafts=drafts
    )
    assert (place, len(drafts), len(batch.raws)) == (3, 3, 3)


postings = st.lists(
    st.tuples(
        st.integers(1, 2**62),
        st.integers(0, 255),
        st.integers(1 - 2**63, 2**63 - 1).filter(bool),
        st.sampled_from(("2026-07-01", "2026-06-30", "1999-12-31", "2027-01-01")),
    ),
    min_size=1,
    max_size=20,
)


@given(st.lists(st.tuples(st.integers(1, 2**62), postings), max_size=5))
def test_rows_of_what_follows_are_the_same(accounts: list[tuple[int, list[Any]]]) -> None:
    seen = []
    for made, wrap in ((compiled_rows, compiled_rows.Postings), (copy_format, list)):
        rows: list[bytes] = []
        sums: list[copy_format.DaySum] = []
        listed = [(number, wrap(of_one)) for number, of_one in accounts]
        made.follow(made.PostingRow("simulated"), listed, rows, sums)
        seen.append((rows, sums))
    assert seen[0] == seen[1]


sums = st.integers(0, 2**70)


@given(st.lists(st.tuples(st.integers(1, 2**62), sums, sums, sums, sums), max_size=20))
def test_balances_are_the_same(moved: list[tuple[int, ...]]) -> None:
    accounts = [
        Account(number, "USD", False, True, None, None, None, "open", 1, *of, version=number + 1)  # noqa: FBT003
        for number, *of in moved
    ]
    expected = [account.number for account in accounts]
    assert compiled_rows.balance_arrays(accounts, expected) == copy_format.balance_arrays(
        accounts, expected
    )
