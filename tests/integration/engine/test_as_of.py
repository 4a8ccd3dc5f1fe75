"""Both clocks (P8) and lists of transactions, against a fold over the events themselves."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from ledger_service.contract.events import (
    AccountOpened,
    JournalEvent,
    LedgerOpened,
    TransactionPosted,
    timestamp,
)
from ledger_service.engine import as_of, entry_list, projector, reads, standing, transaction_index
from ledger_service.engine.projections import HISTORY
from ledger_service.engine.transaction_index import Filters
from tests import dated_histories, ledger_events
from tests.servers import LedgerDatabase

Run = Callable[[Callable[[asyncpg.Connection], Awaitable[Any]]], Any]
_names = (f"dated_{number}" for number in itertools.count())
QUICK = settings(
    max_examples=int(os.environ.get("EXAMPLES", "12")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
MICRO = dt.timedelta(microseconds=1)


@pytest.fixture
def run(ledger_database: LedgerDatabase) -> Iterator[Run]:
    """Runs a coroutine with a connection as the owner, all in one loop."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(ledger_database.owner_url))
        yield lambda work: runner.run(work(connection))
        runner.run(connection.close())


async def stand_at(connection: asyncpg.Connection, ledger: str, seq: int) -> None:
    """Take back what followed past `seq`: as if the rest of the journal were still to come."""
    for table in HISTORY.tables:
        await connection.execute(f"delete from ledger.{table.name} where ledger = $1", ledger)
    await connection.execute("update ledger.projection set seq = 0 where ledger = $1", ledger)
    await follow(connection, ledger, seq)


async def follow(connection: asyncpg.Connection, ledger: str, head: int) -> None:
    """Let the history follow to the head, in small steps, as the writer's service does."""
    await connection.execute("update ledger.head set seq = $2 where ledger = $1", ledger, head)
    while await projector.step(connection, ledger) < head:
        pass


def posted(events: Sequence[JournalEvent]) -> list[TransactionPosted]:
    return [event for event in events if isinstance(event, TransactionPosted)]


def counted(
    events: Sequence[JournalEvent],
    seq: int,
    moment: dt.datetime | None,
    day: dt.date | None,
) -> list[TransactionPosted]:
    """What counts at a point on both clocks: the whole of the definition."""
    return [
        event
        for event in posted(events)
        if event.seq <= seq
        and (moment is None or event.effective_at <= timestamp(moment))
        and (day is None or event.effective_date <= day.isoformat())
    ]


def sums(events: Sequence[TransactionPosted], account: str) -> tuple[int, int]:
    entries = [entry for event in events for entry in event.entries if entry.account == account]
    debits, credits_ = (
        sum(int(entry.amount) for entry in entries if entry.side == side)
        for side in ("debit", "credit")
    )
    return debits, credits_


def points(events: Sequence[JournalEvent]) -> st.SearchStrategy[tuple]:
    """Questions: a seq, and a moment, a day or neither; mostly at the edges of something."""
    zone = ZoneInfo(events[0].time_zone) if isinstance(events[0], LedgerOpened) else dt.UTC
    effective = {dt.datetime.fromisoformat(event.effective_at) for event in posted(events)}
    moments = effective | {dt.datetime.fromisoformat(event.recorded_at) for event in events}
    days = {moment.astimezone(zone).date() for moment in moments}
    days |= {day + dt.timedelta(days=shift) for day in days for shift in (-1, 1)}
    moments |= {dt.datetime.combine(day, dt.time(), zone).astimezone(dt.UTC) for day in days}
    moments |= {moment + shift for moment in moments for shift in (-MICRO, MICRO)}
    when = st.one_of(
        st.tuples(st.sampled_from(sorted(effective or moments)), st.none()),
        st.tuples(st.sampled_from(sorted(moments)), st.none()),
        st.tuples(st.none(), st.sampled_from(sorted(days))),
        st.just((None, None)),
    )
    known = st.just(len(events)) | st.integers(1, len(events))
    return st.tuples(known, when).map(lambda pair: (pair[0], *pair[1]))


def test_balances_known_with_a_seq_read_no_journal_that_the_history_holds(
    ledger_database: LedgerDatabase, run: Run
) -> None:
    name = next(_names)
    events = ledger_events.history(name, 3_000)
    ledger_events.store_journal(ledger_database.owner_url, events)

    async def plan(connection: asyncpg.Connection) -> str:
        await follow(connection, name, events[-1].seq)
        await connection.execute("analyze ledger.journal, ledger.posting_list")
        # As in a large ledger: there to read a third by the index is dearer than to read all.
        await connection.execute("set cpu_index_tuple_cost = 0.5")
        found = await connection.fetch(
            "explain (analyze, timing off) " + standing.BALANCES_AT, name, events[-20].seq
        )
        await connection.execute("reset cpu_index_tuple_cost")
        return "\n".join(line for (line,) in found)

    found = run(plan)
    assert "Seq Scan on journal_0" not in found, found


@QUICK
@given(data=st.data())
def test_balances_on_both_clocks_are_what_the_events_say(
    data: st.DataObject, run: Run, ledger_database: LedgerDatabase
) -> None:
    ledger = next(_names)
    events = data.draw(dated_histories.histories(ledger))
    dated_histories.store(ledger_database.owner_url, events)
    wanted = data.draw(st.lists(points(events), min_size=15, max_size=20))
    recorded = [dt.datetime.fromisoformat(event.recorded_at) for event in events]
    steps = data.draw(st.integers(1, 40))
    known = data.draw(st.sampled_from(recorded)) - data.draw(st.integers(0, 1)) * MICRO

    async def ask_what_stands(connection: asyncpg.Connection) -> None:
        """However far the history has come: before that `seq`, or past it."""
        for seq in {seq for seq, _, _ in wanted}:
            due = counted(events, seq, None, None)
            opened = [e for e in events[:seq] if isinstance(e, AccountOpened)]
            every = [row async for row in standing.balances(connection, ledger, seq)]
            assert {row["account"]: (int(row["debits"]), int(row["credits"])) for row in every} == {
                account.account: sums(due, account.account) for account in opened
            }, seq
            lines = await standing.trial_balance(connection, ledger, seq)
            assert sum(int(row["debits"]) for row in lines) == sum(
                sums(due, account.account)[0] for account in opened
            )

    async def ask(connection: asyncpg.Connection) -> None:
        await stand_at(connection, ledger, 0)
        await ask_what_stands(connection)
        asked: dict[tuple, as_of.Clocks] = {}
        for head in range(0, len(events) + steps, steps):
            await follow(connection, ledger, min(head, len(events)))
            await ask_what_stands(connection)
            # What is resolved now is asked when the history has gone on, perhaps into another day.
            for seq, moment, day in wanted:
                if seq <= head and (seq, moment, day) not in asked:
                    asked[seq, moment, day] = await as_of.resolve(
                        connection, ledger, seq, effective_at=moment, effective_date=day
                    )
        by_then = [event.seq for event, at in zip(events, recorded, strict=True) if at <= known]
        assert await reads.seq_known_at(connection, ledger, known) == max(by_then, default=0)
        for (seq, moment, day), at in asked.items():
            due = counted(events, seq, moment, day)
            opened = [e for e in events[:seq] if isinstance(e, AccountOpened)]
            totals: dict[str, list[int]] = {}
            for account in opened:
                expected = sums(due, account.account)
                found = await as_of.balance(connection, ledger, account.seq, at)
                assert found == expected, (account.account, seq, moment, day)
                line = totals.setdefault(account.gl_code, [0, 0])
                line[0] += expected[0]
                line[1] += expected[1]
            lines = await as_of.trial_balance(connection, ledger, at)
            stated = {row["gl_code"]: [int(row["debits"]), int(row["credits"])] for row in lines}
            assert stated == totals
            every = [row async for row in as_of.balances(connection, ledger, at)]
            assert {row["account"]: (int(row["debits"]), int(row["credits"])) for row in every} == {
                account.account: sums(due, account.account) for account in opened
            }

    run(ask)


@QUICK
@given(data=st.data())
def test_a_statement_holds_each_entry_once_in_the_order_in_which_it_counts(
    data: st.DataObject, run: Run, ledger_database: LedgerDatabase
) -> None:
    ledger = next(_names)
    events = data.draw(dated_histories.histories(ledger))
    dated_histories.store(ledger_database.owner_url, events)
    seq, _, day = data.draw(points(events))
    first = data.draw(st.sampled_from([dt.date.min, dt.date(2026, 3, 8), dt.date(2026, 11, 1)]))
    limit = data.draw(st.integers(1, 5))

    async def ask(connection: asyncpg.Connection) -> None:
        at = await as_of.resolve(connection, ledger, seq, effective_date=day)
        due = [e for e in counted(events, seq, None, day) if e.effective_date >= first.isoformat()]
        for account in [e for e in events[:seq] if isinstance(e, AccountOpened)]:
            expected = sorted(
                (event.effective_at, event.seq, number)
                for event in due
                for number, entry in enumerate(event.entries)
                if entry.account == account.account
            )
            found, place = [], as_of.START
            while True:
                rows = await as_of.statement(
                    connection, ledger, account.seq, at, first=first, after=place, limit=limit
                )
                found += [(timestamp(r["effective_at"]), r["seq"], r["entry_no"]) for r in rows]
                if len(rows) < limit:
                    break
                place = as_of.read_place(as_of.write_place(as_of.place_of(rows[-1])))
            assert found == expected
            days = await as_of.daily_movements(
                connection, ledger, account.seq, at, first=first, limit=1000
            )
            assert days == [
                (
                    day_,
                    *sums(
                        [e for e in due if e.effective_date == day_.isoformat()], account.account
                    ),
                )
                for day_ in sorted({dt.date.fromisoformat(e.effective_date) for e in due})
                if any(
                    entry.account == account.account
                    for e in due
                    if e.effective_date == day_.isoformat()
                    for entry in e.entries
                )
            ]

    run(ask)


# --- lists ------------------------------------------------------------------------------------


def filters(events: Sequence[JournalEvent]) -> st.SearchStrategy[Filters]:
    """Any set of filters; moments are those of events."""
    moments = st.sampled_from(
        [None, *(dt.datetime.fromisoformat(e.effective_at) for e in posted(events))]
    )
    pairs = st.lists(
        st.sampled_from([("invoice", "1"), ("source", "a"), ("source", "b")]), max_size=2
    )
    return st.builds(
        Filters,
        kind=st.sampled_from([None, None, *dated_histories.KINDS]),
        channel=st.sampled_from([None, None, *dated_histories.CHANNELS]),
        counterparty=st.sampled_from([None, None, "cp1", "cp9"]),
        rail_reference=st.sampled_from([None, None, "R 1"]),
        metadata=pairs.map(tuple),
        effective_from=moments,
        effective_to=moments,
        after_seq=st.sampled_from([0, 0, len(events) // 3, len(events) * 2 // 3]),
        until_seq=st.sampled_from([2**63 - 1, len(events) // 3, len(events) * 2 // 3]),
    )


def fits(event: TransactionPosted, wanted: Filters) -> bool:
    """What a filter means."""
    start, end = wanted.effective_from, wanted.effective_to
    return (
        wanted.kind in (None, event.kind)
        and wanted.channel in (None, event.context.channel)
        and wanted.counterparty in (None, event.context.counterparty)
        and wanted.rail_reference in (None, event.context.rail_reference)
        and all(event.metadata.get(key) == value for key, value in wanted.metadata)
        and (start is None or event.effective_at >= timestamp(start))
        and (end is None or event.effective_at < timestamp(end))
        and wanted.after_seq < event.seq <= wanted.until_seq
    )


@QUICK
@given(data=st.data())
def test_pages_of_transactions_lose_and_repeat_none_while_others_are_posted(
    data: st.DataObject, run: Run, ledger_database: LedgerDatabase
) -> None:
    ledger = next(_names)
    events = data.draw(dated_histories.histories(ledger))
    dated_histories.store(ledger_database.owner_url, events)
    wanted = [Filters(), *data.draw(st.lists(filters(events), min_size=4, max_size=6))]
    limit = data.draw(st.integers(1, 4))
    examined = data.draw(st.sampled_from([1, 2, transaction_index.EXAMINED]))
    seen = data.draw(st.integers(len(events) // 2, len(events)))

    async def ask(connection: asyncpg.Connection) -> None:
        # The first page sees only the events up to `seen`; the rest are "posted" after it.
        await stand_at(connection, ledger, seen)
        pages = [await page(connection, one, None, seen) for one in wanted]
        await follow(connection, ledger, len(events))
        for one, (found, following) in zip(wanted, pages, strict=True):
            place = following
            while place:
                rows, place = await page(connection, one, place, len(events))
                found.extend(rows)
            assert len(found) == len(set(found)), "one was doubled"
            due = [e for e in posted(events) if fits(e, one)]
            key = (
                (lambda e: (e.effective_at, e.seq)) if one.by_effective_time else (lambda e: e.seq)
            )
            ordered = [e.seq for e in sorted(due, key=key, reverse=True)]
            assert [seq for seq in ordered if seq in set(found)] == found, "out of order"
            missing = set(ordered) - set(found)
            assert all(seq > seen for seq in missing), "one that was there was lost"
            assert set(found) <= set(ordered)
            newest, more = await page(connection, one, None, len(events))
            whole = examined == transaction_index.EXAMINED or more is None
            assert newest == ordered[: limit if whole else len(newest)]

    async def page(connection, one: Filters, before: str | None, head: int):
        place = transaction_index.read_place(before, one) if before else None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(transaction_index, "EXAMINED", examined)
            found = await transaction_index.find(
                connection, ledger, one, before=place, limit=limit, head=head
            )
        following = found.following and transaction_index.write_place(found.following)
        return [row["seq"] for row in found.rows], following

    run(ask)


def entry_filters(events: Sequence[JournalEvent]) -> st.SearchStrategy[entry_list.Filters]:
    """Any set of filters of entries; days are those of events and their neighbours."""
    days = {dt.date.fromisoformat(event.effective_date) for event in posted(events)}
    days |= {day + shift * dt.timedelta(days=1) for day in days for shift in (-1, 1)}
    maybe_day = st.sampled_from([None, *sorted(days)])
    # What was recorded ahead of its day comes at the end of that day's pages.
    ahead = {
        dt.date.fromisoformat(event.effective_date)
        for event in posted(events)
        if event.effective_at > event.recorded_at
    }
    return st.builds(
        entry_list.Filters,
        side=st.sampled_from([None, None, "debit", "credit"]),
        least=st.sampled_from([None, None, 7, 2**62]),
        most=st.sampled_from([None, None, 7, 100]),
        first_day=st.sampled_from(sorted(ahead)) | maybe_day if ahead else maybe_day,
        last_day=maybe_day,
        after_seq=st.sampled_from([0, 0, len(events) // 3, len(events) * 2 // 3]),
        until_seq=st.sampled_from([2**63 - 1, len(events) // 3, len(events) * 2 // 3]),
    )


def entries_that_fit(
    events: Sequence[JournalEvent], account: str, wanted: entry_list.Filters
) -> list[tuple[int, int]]:
    """`seq` and number of an account's entries, newest first: what a filter means."""
    first = (wanted.first_day or dt.date.min).isoformat()
    last = (wanted.last_day or dt.date.max).isoformat()
    found = [
        (event.seq, number)
        for event in posted(events)
        for number, entry in enumerate(event.entries)
        if entry.account == account
        and wanted.side in (None, entry.side)
        and (wanted.least or 1) <= int(entry.amount) <= (wanted.most or 2**63)
        and first <= event.effective_date <= last
        and wanted.after_seq < event.seq <= wanted.until_seq
    ]
    return sorted(found, key=lambda place: (-place[0], place[1]))


@QUICK
@given(data=st.data())
def test_pages_of_entries_lose_repeat_and_part_none_however_little_a_page_looks_at(
    data: st.DataObject, run: Run, ledger_database: LedgerDatabase
) -> None:
    ledger = next(_names)
    events = data.draw(dated_histories.histories(ledger))
    dated_histories.store(ledger_database.owner_url, events)
    opened = [event for event in events if isinstance(event, AccountOpened)]
    wanted = data.draw(st.lists(entry_filters(events), min_size=4, max_size=6))
    wanted.append(entry_list.Filters())
    limit, steps = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 8))
    seen = data.draw(st.integers(len(events) // 2, len(events)))
    lists, size = data.draw(st.integers(1, 5)), data.draw(st.sampled_from([1, 50, 160_000]))
    value_dated = data.draw(st.sampled_from([1, 4, 20_000]))

    async def ask(connection: asyncpg.Connection) -> None:
        # Lists of a few entries each; the first page sees the events up to `seen` alone.
        await stand_at(connection, ledger, 0)
        for head in range(0, seen, steps):
            await follow(connection, ledger, head)
        await follow(connection, ledger, seen)
        asked = [(account, one) for account in opened if account.seq <= seen for one in wanted]
        pages = [await page(connection, *each, seen, 2**63 - 1) for each in asked]
        await follow(connection, ledger, len(events))
        for (account, one), (first, place) in zip(asked, pages, strict=True):
            found, before = list(first), place
            while before is not None:
                rows, after = await page(connection, account, one, len(events), before)
                assert after is None or after < before, "it does not come to an end"
                found += rows
                before = after
            assert found == entries_that_fit(events[:seen], account.account, one)

    async def page(connection, account, one: entry_list.Filters, head: int, before: int):
        found = await entry_list.find(
            connection, ledger, account.seq, one, before=before, limit=limit, head=head
        )
        return [(row["seq"], row["entry_no"]) for row in found.rows], found.following

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entry_list, "EXAMINED_LISTS", lists)
        patch.setattr(entry_list, "EXAMINED_BYTES", size)
        patch.setattr(entry_list, "EXAMINED_VALUE_DATED", value_dated)
        run(ask)


def test_what_was_recorded_ahead_of_its_day_comes_once_at_the_end_of_that_day(
    run: Run, ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few of the day's own lists a page has looked at."""
    monkeypatch.setattr(entry_list, "EXAMINED_LISTS", 2)
    opening = list(ledger_events.opening("simulated", 2))
    first = len(opening) + 1
    payer, payee = (ledger_events.customer(number) for number in range(2))
    days = ["2026-07-02", *(["2026-07-01"] * 6)]
    events = [
        ledger_events.posting(
            "simulated", seq, "transfer", debit=payer, credit=payee, amount=5,
            effective_at=f"{day}T14:00:00.000000Z", effective_date=day, business_date=day,
        )
        for seq, day in enumerate(days, first)
    ]  # fmt: skip
    # the rest is recorded on the second of July, a minute apart
    shift = dt.timedelta(days=1)
    events[1:] = [
        msgspec.structs.replace(
            event,
            recorded_at=timestamp(dt.datetime.fromisoformat(event.recorded_at) + shift),
            effective_at=timestamp(dt.datetime.fromisoformat(event.effective_at) + shift),
            effective_date="2026-07-02",
        )
        for event in events[1:]
    ]
    dated_histories.store(ledger_database.owner_url, [*opening, *events])
    number = next(e.seq for e in opening if isinstance(e, AccountOpened) and e.account == payer)
    head, wanted = events[-1].seq, entry_list.Filters(first_day=dt.date(2026, 7, 2))

    async def ask(connection: asyncpg.Connection) -> list[int]:
        await stand_at(connection, "simulated", 0)
        for seq in range(1, head + 1):
            await follow(connection, "simulated", seq)
        found: list[int] = []
        before: int | None = entry_list.LAST_SEQ
        while before is not None:
            page = await entry_list.find(
                connection, "simulated", number, wanted, before=before, limit=10, head=head
            )
            found += [row["seq"] for row in page.rows]
            before = page.following
        return found

    assert run(ask) == [event.seq for event in reversed(events)]


def test_what_was_backdated_into_two_days_comes_newest_first_though_a_page_looks_at_one_of_each(
    run: Run, ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry_list, "EXAMINED_VALUE_DATED", 2)
    opening = list(ledger_events.opening("simulated", 2))
    first = len(opening) + 1
    payer, payee = (ledger_events.customer(number) for number in range(2))
    days = ["2026-06-29"] * 3 + ["2026-06-28", "2026-06-29"] * 2 + ["2026-06-27"]
    events = [
        ledger_events.posting(
            "simulated", seq, "transfer", debit=payer, credit=payee, amount=5,
            effective_at=f"{day}T14:00:00.000000Z", effective_date=day, business_date=day,
        )
        for seq, day in enumerate(days, first)
    ]  # fmt: skip
    dated_histories.store(ledger_database.owner_url, [*opening, *events])
    number = next(e.seq for e in opening if isinstance(e, AccountOpened) and e.account == payer)
    wanted = entry_list.Filters(first_day=dt.date(2026, 6, 28), last_day=dt.date(2026, 6, 29))

    async def ask(connection: asyncpg.Connection) -> list[int]:
        found: list[int] = []
        before: int | None = entry_list.LAST_SEQ
        while before is not None:
            page = await entry_list.find(
                connection, "simulated", number, wanted, before=before, limit=10, head=first
            )
            found += [row["seq"] for row in page.rows]
            before = page.following
        return found

    assert run(ask) == [event.seq for event in reversed(events[:-1])]


def test_what_was_backdated_before_the_recorded_range_asked_for_is_not_found(
    run: Run, ledger_database: LedgerDatabase
) -> None:
    """Though it counts on the days asked for, which were over before that range begins."""
    opening = list(ledger_events.opening("simulated", 2))
    first = len(opening) + 1
    payer, payee = (ledger_events.customer(number) for number in range(2))
    events = [
        msgspec.structs.replace(
            ledger_events.posting(
                "simulated", seq, "transfer", debit=payer, credit=payee, amount=5,
                effective_at="2026-07-01T14:00:00.000000Z", effective_date="2026-07-01",
                business_date="2026-07-01",
            ),
            recorded_at="2026-07-02T14:00:00.000000Z",
        )
        for seq in range(first, first + 3)
    ]  # fmt: skip
    dated_histories.store(ledger_database.owner_url, [*opening, *events])
    number = next(e.seq for e in opening if isinstance(e, AccountOpened) and e.account == payer)
    wanted = entry_list.Filters(last_day=dt.date(2026, 7, 1), after_seq=first + 1)

    async def ask(connection: asyncpg.Connection) -> list[int]:
        await stand_at(connection, "simulated", 0)
        await follow(connection, "simulated", first + 2)
        page = await entry_list.find(
            connection, "simulated", number, wanted,
            before=entry_list.LAST_SEQ, limit=10, head=first + 2,
        )  # fmt: skip
        return [row["seq"] for row in page.rows]

    assert run(ask) == [first + 2]
