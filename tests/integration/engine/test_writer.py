"""The writer in the test's process: batches, keys, failing commits, linked batches."""

from __future__ import annotations

import asyncio
import datetime as dt

import asyncpg
import pytest

from ledger_service.domain.book import Book, Decision
from ledger_service.domain.commands import Command, OpenAccount, capture_hold
from ledger_service.domain.idempotency import key_digest
from ledger_service.engine import store
from ledger_service.engine import writer as writer_module
from ledger_service.engine.charts import known_charts
from ledger_service.engine.deciding import Submission, deadline_in
from ledger_service.engine.protocol import Committed, Possible, Refused, Unknown
from ledger_service.engine.verify import verify
from ledger_service.engine.writer import LedgerWriter
from tests.integration.engine.conftest import LEDGER, MEETING, local_writer
from tests.ledger_book import OPENING, posting
from tests.servers import LedgerDatabase

A, B = "customer:1:wallet", "customer:2:wallet"


def submit(
    writer: LedgerWriter, *commands: Command, linked: bool = False, in_doubt: bool = False
) -> asyncio.Future:
    """Queue commands; gives the future of their verdicts."""
    answer = asyncio.get_running_loop().create_future()
    writer.offer(
        Submission(
            list(commands),
            linked,
            deadline_in(30),
            in_doubt=in_doubt,
            with_events=True,
            answer=answer,
        )
    )
    return answer


@pytest.fixture(params=["looked up first", "taken for new"])
def keys(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a writer does with keys that are not in its memory, soon after it has taken over."""
    if request.param == "taken for new":
        monkeypatch.setattr(writer_module, "CAUTION_S", 0.0)
    return request.param


async def opened(writer: LedgerWriter) -> None:
    """The ledger with two accounts, B with a floor."""
    accounts = OpenAccount(A, "USD", "key_test"), OpenAccount(B, "USD", "key_test", None, "0")
    await submit(writer, OPENING, *accounts)


@pytest.mark.parametrize("linked", [False, True])
async def test_an_account_is_opened_and_moved_in_one_commit(
    ledger_database: LedgerDatabase, linked: bool
) -> None:
    """Two requests that arrive together are one batch; a surprise would take the ledger over anew."""
    new = "customer:9:wallet"
    async with local_writer(ledger_database) as writer:
        await opened(writer)
        asked = OpenAccount(new, "USD", "key_test"), posting("k", (A, 5), (new, -5))
        _, moved = await submit(writer, *asked, linked=linked)
        assert isinstance(moved, Committed)
    connection = await asyncpg.connect(ledger_database.owner_url)
    assert await connection.fetchval("select epoch from ledger.head") == 1
    assert (
        await connection.fetchval(
            "select credits from ledger.balance join ledger.account using (ledger, number) "
            "where account = $1",
            new,
        )
        == 5
    )
    await connection.close()


async def test_keys_hold_inside_a_batch_across_batches_and_across_restarts(
    ledger_database: LedgerDatabase, keys: str
) -> None:
    del keys
    first, other = posting("k", (A, 5), (B, -5)), posting("k", (A, 6), (B, -6))
    async with local_writer(ledger_database) as writer:
        await opened(writer)
        one, two, three = await submit(writer, first, first, other)
        assert (one.replayed, two.replayed) == (False, True)
        assert (two.seq, two.event_bytes) == (one.seq, one.event_bytes)
        assert three.code == "idempotency_conflict"
        (again,) = await submit(writer, first)
        assert (again.seq, again.replayed) == (one.seq, True)
    async with local_writer(ledger_database) as writer:
        replay, conflict, new = await submit(writer, first, other, posting("n", (A, 1), (B, -1)))
        assert (replay.seq, replay.event_bytes, replay.replayed) == (one.seq, one.event_bytes, True)
        assert conflict.code == "idempotency_conflict"
        assert new.seq == one.seq + 1
    assert verify(ledger_database.owner_url, None, full=True).findings == []


async def test_keys_that_meet_in_the_index_are_two_in_a_batch_across_batches_and_restarts(
    ledger_database: LedgerDatabase, keys: str
) -> None:
    for one, two in MEETING:
        assert key_digest(LEDGER, one)[-6:] == key_digest(LEDGER, two)[-6:]
    at_once, later = [[posting(key, (A, 5), (B, -5)) for key in pair] for pair in MEETING]
    asked = [*at_once, *later]
    async with local_writer(ledger_database) as writer:
        await opened(writer)
        done = [
            *await submit(writer, *at_once, posting("k", (A, 5), (B, -5))),
            *await submit(writer, later[0]),
            *await submit(writer, later[1]),
        ]
        assert [verdict.seq for verdict in done] == [6, 7, 8, 9, 10]
        assert not any(verdict.replayed for verdict in done)
    async with local_writer(ledger_database) as writer:
        again = await submit(writer, *asked)
        assert [(one.seq, one.replayed) for one in again] == [(seq, True) for seq in (6, 7, 9, 10)]
    connection = await asyncpg.connect(ledger_database.owner_url)
    refused_commits = 1 if keys == "taken for new" else 0
    assert await connection.fetchval("select epoch from ledger.head") == 2 + refused_commits
    await connection.close()
    assert verify(ledger_database.owner_url, None, full=True).findings == []


async def test_a_refusal_is_no_answer_to_what_was_committed_before(
    ledger_database: LedgerDatabase, keys: str
) -> None:
    """Whatever would be refused today: the answer is that of the first time."""
    del keys
    pay, dry = posting("pay", (B, 5), (A, -5)), posting("dry", (B, 5), (A, -5), dry_run=True)
    async with local_writer(ledger_database) as writer:
        await opened(writer)
        await submit(writer, posting("in", (A, 5), (B, -5)))
        (paid,) = await submit(writer, pay)
    for linked in (False, True):
        async with local_writer(ledger_database) as writer:
            asked = submit(writer, posting("out", (B, 1), (A, -1)), pay, dry, linked=linked)
            out, again, tried = await asked
            if not linked:
                assert (out.code, tried.code) == ("floor_passed", "floor_passed")
                assert (again.seq, again.replayed, again.event_bytes) == (
                    paid.seq,
                    True,
                    paid.event_bytes,
                )
            (again,) = await submit(writer, pay)
            assert (again.seq, again.replayed) == (paid.seq, True)
    assert verify(ledger_database.owner_url, None, full=True).findings == []


async def test_what_is_under_way_is_not_cut_off_by_a_key_that_stands(
    ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer of commit N hangs; what comes after it would be refused, but for a key that stands: N
    was done for the first time, and is said to have been."""
    async with local_writer(ledger_database) as writer:
        await opened(writer)
        await submit(writer, posting("in", (A, 5), (B, -5)))
        (paid,) = await submit(writer, posting("pay", (B, 5), (A, -5)))
    monkeypatch.setattr(writer_module, "CAUTION_S", 0.0)
    async with local_writer(ledger_database, overlapping_commands=1) as writer:
        going_on, real, begun = asyncio.Event(), store.commit, asyncio.Event()

        async def commit(connection, rows, epoch) -> None:
            await real(connection, rows, epoch)
            begun.set()
            await going_on.wait()

        monkeypatch.setattr(store, "commit", commit)
        in_batch_n = submit(writer, posting("n", (A, 1), (A, -1)))
        await begun.wait()
        asked_again = submit(writer, posting("pay", (B, 5), (A, -5)))
        await asyncio.sleep(0.3)
        assert not asked_again.done()
        going_on.set()
        (done,), (again,) = await in_batch_n, await asked_again
        assert (done.seq, done.replayed) == (paid.seq + 1, False)
        assert (again.seq, again.replayed) == (paid.seq, True)
    assert verify(ledger_database.owner_url, None, full=True).findings == []


async def test_one_key_that_stands_makes_the_writer_look_up_those_that_follow(
    ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [posting(f"old-{number}", (A, 1), (B, -1)) for number in range(4)]
    looked_up: list[int] = []
    find = store.find_keys

    async def find_keys(connection, digests):
        looked_up.append(len(digests))
        return await find(connection, digests)

    async with local_writer(ledger_database) as writer:
        await opened(writer)
        await submit(writer, *old)
    monkeypatch.setattr(store, "find_keys", find_keys)
    monkeypatch.setattr(writer_module, "CAUTION_S", 0.5)
    async with local_writer(ledger_database) as writer:
        await submit(writer, posting("first", (A, 1), (B, -1)))
        epoch = writer.epoch
        assert looked_up == [1]  # a writer that has just taken over
        await asyncio.sleep(0.6)
        await submit(writer, posting("second", (A, 1), (B, -1)))
        assert (writer.epoch, looked_up) == (epoch, [1])
        for once_more in old:  # each keeps it cautious for the next
            (replay,) = await submit(writer, once_more)
            assert replay.replayed
            assert writer.epoch == epoch + 1
            await asyncio.sleep(0.3)


async def test_when_a_commit_fails_nothing_that_rests_on_it_is_answered(
    ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commit N hangs, N+1 is decided on top of it, N fails: no answer of either may have left."""
    async with local_writer(ledger_database, overlapping_commands=1) as writer:
        await opened(writer)
        failing, real, begun = asyncio.Event(), store.commit, asyncio.Event()
        attempts: list[int] = []

        async def commit(connection, rows, epoch) -> None:
            attempts.append(rows.batch.last_seq)
            if len(attempts) == 1:
                begun.set()
                await failing.wait()
                raise ConnectionResetError
            await real(connection, rows, epoch)

        monkeypatch.setattr(store, "commit", commit)
        pay = posting("pay", (A, 50), (B, -50))
        in_batch_n = submit(writer, pay)
        await begun.wait()
        refusal_resting_on_n = submit(writer, posting("out", (B, 51), (A, -51)))
        replay_resting_on_n = submit(writer, pay)
        await asyncio.sleep(0.3)
        resting = [in_batch_n, refusal_resting_on_n, replay_resting_on_n]
        assert not any(answer.done() for answer in resting)
        epoch = writer.epoch
        failing.set()
        (paid,), (refused,), (replayed,) = await asyncio.gather(*resting)
        assert isinstance(paid, Committed)
        assert (refused.code, refused.detail["available"]) == ("floor_passed", "50")
        assert replayed.seq == paid.seq
        assert writer.epoch == epoch + 1
    assert verify(ledger_database.owner_url, None, full=True).findings == []


async def test_a_commit_that_went_through_and_was_not_heard_of_is_found_again(
    ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with local_writer(ledger_database) as writer:
        await opened(writer)
        real, attempts = store.commit, []

        async def commit(connection, rows, epoch) -> None:
            await real(connection, rows, epoch)
            attempts.append(rows.batch.last_seq)
            if len(attempts) == 1:
                raise ConnectionResetError

        monkeypatch.setattr(store, "commit", commit)
        (paid,) = await submit(writer, posting("pay", (A, 50), (B, -50)))
        assert (paid.seq, paid.replayed, len(attempts)) == (attempts[0], False, 1)
    assert verify(ledger_database.owner_url, None, full=True).findings == []


async def test_a_take_over_fences_the_writer_before_the_next_one_has_written(
    ledger_database: LedgerDatabase,
) -> None:
    """By its epoch alone: where the ledger stands has not changed."""
    async with local_writer(ledger_database) as writer:
        await opened(writer)
        connection = await asyncpg.connect(ledger_database.url("writer"))
        epoch, book, _ = await store.take_over(connection, LEDGER, known_charts())
        (verdict,) = await submit(writer, posting("pay", (A, 50), (B, -50)))
        assert isinstance(verdict, Unknown)
        stands = await connection.fetchval("select seq from ledger.head")
        assert (stands, writer.epoch) == (book.seq, epoch + 1)
        await connection.close()


async def test_a_linked_batch_is_all_or_nothing_and_a_dry_run_nothing(
    ledger_database: LedgerDatabase,
) -> None:
    async with local_writer(ledger_database) as writer:
        await opened(writer)
        good, bad = posting("g", (A, 5), (B, -5)), posting("b", (B, 6), (A, -6))
        verdicts = await submit(writer, good, bad, linked=True)
        assert [v.code for v in verdicts] == ["linked_batch_refused", "floor_passed"]
        (dry,) = await submit(writer, posting("g", (A, 5), (B, -5), dry_run=True))
        assert isinstance(dry, Possible)
        fine = posting("b", (B, 5), (A, -5))
        verdicts = await submit(writer, good, fine, linked=True)
        assert [v.seq for v in verdicts] == [6, 7]
    assert verify(ledger_database.owner_url, None, full=True).findings == []


async def test_a_command_that_no_one_can_decide_is_refused_alone(
    ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault in deciding has changed nothing: it neither ends the writer's turn nor spoils a neighbour."""
    async with local_writer(ledger_database) as writer:
        await opened(writer)
        epoch, decide = writer.epoch, Book.decide
        bad = posting("bad", (A, 5), (B, -5), imposed=True)

        def decide_all_but_one(book: Book, command: Command, now: dt.datetime) -> Decision:
            if command == bad:
                raise OverflowError
            return decide(book, command, now)

        monkeypatch.setattr(Book, "decide", decide_all_but_one)
        asked = posting("1", (A, 1), (B, -1)), bad, posting("2", (A, 1), (B, -1), imposed=True)
        first, refused, last = await submit(writer, *asked)
        assert (refused.code, last.seq) == ("undecidable", first.seq + 1)
        linked = await submit(writer, posting("3", (A, 1), (B, -1)), bad, linked=True)
        assert [one.code for one in linked] == ["linked_batch_refused", "undecidable"]
        monkeypatch.undo()
        (done,) = await submit(writer, bad)
        assert (done.seq, writer.epoch) == (last.seq + 1, epoch)
    assert verify(ledger_database.owner_url, None, full=True).findings == []


async def test_what_no_database_takes_is_refused_alone(ledger_database: LedgerDatabase) -> None:
    """Nothing can be looked up by it; whoever came with it is served, and nobody waits for it again."""
    async with local_writer(ledger_database) as writer:
        await opened(writer)
        beyond = capture_hold(LEDGER, "beyond", hold=2**63, actor="key_test")
        for bad in (posting("nul", ("customer:1:\0", 1), (B, -1)), beyond):
            asked = [
                submit(writer, posting(f"by {bad.digest}", (A, 1), (B, -1))),
                submit(writer, bad),
            ]
            [[paid], [refused]] = await asyncio.gather(*asked)
            assert (paid.replayed, refused.code) == (False, "undecidable")
    assert verify(ledger_database.owner_url, None, full=True).findings == []


async def test_a_full_queue_refuses_at_once(ledger_database: LedgerDatabase) -> None:
    writer = LedgerWriter(LEDGER, None, {}, None)  # type: ignore[arg-type]
    for _ in range(6):
        submit(writer, *[posting("k", (A, 5), (B, -5))] * 10_000)
    verdicts = await submit(writer, *[posting("k", (A, 5), (B, -5))] * 10_000)
    assert isinstance(verdicts[0], Refused)
    assert verdicts[0].code == "busy"
    verdicts = await submit(writer, *[posting("k", (A, 5), (B, -5))] * 10_000, in_doubt=True)
    assert isinstance(verdicts[0], Unknown)


@pytest.mark.parametrize(
    "sql",
    [
        "update ledger.journal set bytes = ''",
        "delete from ledger.journal",
        "truncate ledger.journal",
        "update ledger.journal_0 set seq = 9",
        "drop table ledger.journal_0",
        "alter table ledger.journal disable trigger all",
    ],
)
async def test_the_serving_role_cannot_change_the_journal(
    ledger_database: LedgerDatabase, sql: str
) -> None:
    for role, expected in (("writer", asyncpg.InsufficientPrivilegeError),):
        connection = await asyncpg.connect(ledger_database.url(role))
        with pytest.raises(expected):
            await connection.execute(sql)
        await connection.close()


async def test_the_journal_refuses_changes_even_to_its_owner(
    ledger_database: LedgerDatabase,
) -> None:
    async with local_writer(ledger_database) as writer:
        await opened(writer)
    connection = await asyncpg.connect(ledger_database.owner_url)
    for sql in ("update ledger.journal set seq = seq + 9", "delete from ledger.journal_0"):
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await connection.execute(sql)
    await connection.close()
