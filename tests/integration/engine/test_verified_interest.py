"""Interest worked out again by verification, whatever page it stands on and however far the history is."""

from __future__ import annotations

import datetime as dt
import itertools
from fractions import Fraction
from typing import Any

import hypothesis.strategies as st
import msgspec
import psycopg
import pytest
from hypothesis import given
from psycopg.rows import dict_row

from ledger_service.contract.events import JournalEvent, TransactionPosted
from ledger_service.domain.book import Book, Decision
from ledger_service.domain.commands import OpenAccount
from ledger_service.domain.interest import parse_ratio, ratio
from ledger_service.engine.charts import known_charts
from ledger_service.engine.fold import Fold
from ledger_service.engine.projections import HISTORY
from ledger_service.engine.verification import journal, position, rules
from ledger_service.engine.verification.report import Keys, Report, Scope
from ledger_service.engine.verify import verify
from tests import dated_histories
from tests.integration.engine.test_as_of import QUICK
from tests.integration.engine.test_transaction_index import (
    FILL_DAY_SUMS,
    FILL_DAYS,
    FILL_LISTS,
    ROWS,
    unnested,
)
from tests.ledger_book import (
    NOW,
    OPENING,
    accruing,
    begin_accruing,
    capitalizing,
    carry_out,
    interest_rule,
    posting,
)
from tests.servers import LedgerDatabase

SAVERS, FBO = ("customer:1:wallet", "customer:2:wallet"), "bank:fbo"
DAY = dt.timedelta(days=1)
_names = (f"interest_{number}" for number in itertools.count())
LATER = st.sampled_from([dt.timedelta(0), dt.timedelta(hours=5), DAY, 2 * DAY])
AMOUNT = st.integers(10_000, 90_000)
STEPS = st.one_of(
    st.tuples(st.just("deposit"), st.sampled_from(SAVERS), LATER, st.integers(0, 9), AMOUNT),
    st.tuples(st.just("withdraw"), st.sampled_from(SAVERS), LATER, st.integers(0, 9), AMOUNT),
    st.tuples(st.just("accrue"), st.sampled_from(SAVERS), LATER, st.integers(0, 1), AMOUNT),
    st.tuples(st.just("accrue"), st.sampled_from(SAVERS), LATER, st.integers(0, 1), AMOUNT),
    st.tuples(st.just("capitalize"), st.sampled_from(SAVERS), LATER, st.integers(0, 4), AMOUNT),
)
"""What is done to whose account, how much later, and for how many days ago."""


def history(ledger: str, steps: list[tuple]) -> list[JournalEvent]:
    """What a book decides: moves, some of them backdated into accrued days, and interest."""
    return decided(ledger, steps)[1]


def decided(ledger: str, steps: list[tuple]) -> tuple[Book, list[JournalEvent], dt.datetime]:
    """The book, its events, and the moment of the last."""
    names = (*SAVERS, FBO, "expense:interest", "payable:interest")
    book, now = Book(ledger, known_charts()), NOW
    opened = [OpenAccount(name, "USD", "key_test") for name in names]
    rule = interest_rule("save", "0.0365", since="2026-06-20")
    events: list[JournalEvent] = []
    for command in (msgspec.structs.replace(OPENING, ledger=ledger), *opened, rule):
        events += kept(carry_out(book, command, now))
    for saver in SAVERS:
        begin_accruing(book, "save", saver)
    for number, (do, saver, later, ago, amount) in enumerate(steps):
        now, key = now + later, f"{ledger} {number}"
        day = now.date() - ago * DAY
        moves = (FBO, amount), (saver, -amount)
        taken = (FBO, -amount), (saver, amount)
        at = f"{day}T13:00:00Z"
        command = {
            "deposit": posting(key, *moves, effective_at=at),
            "withdraw": posting(key, *taken, effective_at=at),
            "accrue": accruing(key, "save", saver, str(day - DAY)),
            "capitalize": capitalizing(key, "save", saver, effective_at=at),
        }[do]
        events += kept(carry_out(book, command, now))
    return book, events, now


def kept(decision: Decision) -> list[JournalEvent]:
    return decision if isinstance(decision, list) else []


def stand_at(owner_url: str, ledger: str, seq: int) -> None:
    """As if the history had not come further."""
    with psycopg.connect(owner_url) as connection:
        for table in HISTORY.tables:
            connection.execute(f"delete from ledger.{table.name} where ledger = %s", (ledger,))
        psycopg.RawCursor(connection).execute(HISTORY.step(), (ledger, 0, seq))
        connection.execute("update ledger.projection set seq = %s where ledger = %s", (seq, ledger))


def disputed(owner_url: str, ledger: str, *, full: bool = True) -> list[tuple[str, int | None]]:
    """What is found of interest; these events have no leaf hashes and no tree."""
    found = verify(owner_url, ledger, full=full).findings
    codes = ("interest_differs", "not_applicable", "unbalanced", "not_comparable")
    return [(one.code, one.seq) for one in found if one.code in codes]


def remember(owner_url: str, events: list[JournalEvent], followed: int) -> None:
    """As if these events had been verified by an earlier run."""
    fold, ledger, seq = Fold(), events[0].ledger, len(events)
    for event in events:
        fold.apply(event)
    with psycopg.connect(owner_url) as connection:
        head = {"seq": seq, "root": bytes(32)}
        scope = Scope(connection, Report(), Keys(), ledger, head, 0, min(followed, seq), 0, fold)
        position.remember(scope)


def accrued(events: list[JournalEvent]) -> list[TransactionPosted]:
    return [event for event in events if isinstance(event, TransactionPosted)
            and event.applied is not None and event.applied.first_day]  # fmt: skip


@QUICK
@given(data=st.data())
def test_interest_is_that_of_the_entries_before_it_and_no_other(
    data: st.DataObject, ledger_database: LedgerDatabase
) -> None:
    url, ledger, false = ledger_database.owner_url, next(_names), next(_names)
    steps = data.draw(st.lists(STEPS, min_size=20, max_size=40))
    page = data.draw(st.sampled_from([1, 3, 8]))
    field = data.draw(st.sampled_from(["interest", "true_up"]))
    events, others = history(ledger, steps), history(false, steps)
    followed = data.draw(st.just(len(events)) | st.integers(1, len(events)))
    known = data.draw(st.integers(1, len(events)))
    last = {one.applied.account: one for one in accrued(others) if one.applied}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "_PAGE", page)
        dated_histories.store(url, events)
        stand_at(url, ledger, followed)
        assert disputed(url, ledger) == []
        remember(url, events[:known], followed)
        assert disputed(url, ledger, full=False) == []
        changed = [but_a_little(e, field) if e in last.values() else e for e in others]
        dated_histories.store(url, changed)
        stand_at(url, false, followed)
        wrong = {("interest_differs", one.seq) for one in last.values()}
        assert wrong <= set(disputed(url, false))
        remember(url, others[:known], followed)
        new = {(code, seq) for code, seq in wrong if seq > known}
        assert new <= set(disputed(url, false, full=False))


def but_a_little(event: Any, field: str) -> TransactionPosted:
    """The same with a hundredth of a cent more, which is carried."""
    applied = event.applied
    more = {
        name: ratio(parse_ratio(getattr(applied, name)) + Fraction(1, 100))
        for name in (field, "carried")
    }
    return msgspec.structs.replace(event, applied=msgspec.structs.replace(applied, **more))


def test_what_an_account_is_brought_in_with_are_day_sums_and_entries_of_one_day(
    ledger_database: LedgerDatabase,
) -> None:
    with psycopg.connect(ledger_database.owner_url, row_factory=dict_row) as connection:
        for fill in (FILL_LISTS, FILL_DAYS, FILL_DAY_SUMS):
            connection.execute(fill.replace("$1", str(ROWS)).encode())
        connection.commit()
        connection.autocommit = True
        connection.execute("vacuum analyze ledger.posting_list, ledger.day_delta")
        day = ROWS // 360
        for at in (day // 2, ROWS // 2 + day // 3, ROWS - 1):
            entries = read(connection, rules.MOVEMENTS, at=at, sinces=[dt.date(2026, 5, 1)])
            assert 0 < entries <= day + 2_000, (at, entries)
            nexts = [dt.date(2027, 1, 1)]
            late = read(connection, rules.LATE, at=ROWS, lasts=[at], firsts=nexts)
            assert late <= 2_000, (at, late)


def read(connection: psycopg.Connection[Any], sql: str, **parameters: Any) -> int:
    """How many rows a query of the account 7 reads."""
    own = {"ledger": "simulated", "followed": ROWS, "rules": ["save"], "numbers": [7]}
    row = connection.execute(
        b"explain (analyze, format json) " + sql.encode(), {**own, **parameters}
    ).fetchone()
    assert row
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in unnested(row["QUERY PLAN"][0]["Plan"])
    )
