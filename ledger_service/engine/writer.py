"""The single writer of one ledger: natural batching, pipelined commits, take-over on any surprise.

While one batch commits the next is decided, if enough waits to make one, and no answer leaves before
the commit of its own batch, which comes after that of every batch it rests on: refusals, replays and
dry runs too. Whatever goes wrong is met in one way: drop the book, take the head over (so that a
commit in doubt has either happened or never will), load, and decide again what was not answered.
Idempotency keys then find what had been committed.

A key that is not in memory is looked up first only where some were lately found to stand. Else it is
taken for new: the index of keys refuses to commit one that is not, which is a surprise as any other,
and what commits nothing is looked up before it is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from itertools import chain

import asyncpg
import msgspec
import structlog

from ledger_service.domain import memory
from ledger_service.domain.book import Book, Replay
from ledger_service.domain.chart import Chart
from ledger_service.domain.errors import refusal
from ledger_service.domain.period_commands import ClosePeriod
from ledger_service.engine import fast, stops, store
from ledger_service.engine.batch import Batch
from ledger_service.engine.deciding import Draft, Submission, decide_all, undecidable, verdict_of
from ledger_service.engine.durability import ReplicationWatch
from ledger_service.engine.merkle import Tree
from ledger_service.engine.protocol import Refused, Verdict

log = structlog.get_logger()

Connect = Callable[[], Awaitable[asyncpg.Connection]]


class Limits(msgspec.Struct, frozen=True):
    """Bounds of a writer's memory and of its batches."""

    queued_commands: int = 65_536
    """More are refused as `busy`."""
    batch_commands: int = 8_192
    """A batch that has so many is full. Two requests of 8,000 go together: a commit writes a balance
    once, however many postings move it. Of smaller ones no more, for others wait for the commit."""
    overlapping_commands: int = 256
    """While a batch commits the next is decided, if so many wait; fewer rather wait for more."""
    accounts: int = 200_000
    keys: int = 200_000
    originals: int = 10_000
    attempts: int = 3
    """Failed commits after which a submission is answered with unknown."""


CAUTION_S = 10.0
"""How long every key is looked up first: after a take-over, and after one was found that stands. Those
who ask again come together, so few are ever found by a refused commit: at most one in so many seconds."""


class LostLease(Exception):
    """Another process writes this ledger now."""


class _Held(msgspec.Struct):
    """What a take-over gives: everything that a surprise makes worthless."""

    epoch: int
    book: Book
    tree: Tree
    committing: asyncpg.Connection
    replication: ReplicationWatch
    loading: asyncpg.Connection


class LedgerWriter:
    """Decides and commits for one ledger, as long as `holds_lease` says that it may."""

    def __init__(
        self,
        ledger: str,
        connect: Connect,
        charts: Mapping[str, Chart],
        holds_lease: Callable[[], Awaitable[bool]],
        limits: Limits = Limits(),  # noqa: B008 - frozen
        *,
        on_commit: Callable[[Batch], None] | None = None,
        on_close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`on_commit`: called with each batch that is known to be committed. `on_close`: awaited
        when a period is closed, before anything else is decided."""
        self.ledger = ledger
        self.committed_seq = 0
        self.epoch = 0
        self.is_stopped = False
        """Whether a violation was found, and writing stands still until two people resume it."""
        self._connect = connect
        self._charts = charts
        self._holds_lease = holds_lease
        self._limits = limits
        self._on_commit = on_commit
        self._on_close = on_close
        self._queue: deque[Submission] = deque()
        self._queued = 0
        self._wake = asyncio.Event()
        self._stopping = False
        self._cautious_until = 0.0  # on the monotonic clock
        self._aboard: list[Submission] = []
        """Taken from the queue, not answered yet."""

    def offer(self, submission: Submission) -> None:
        """Queue a submission; it is answered through its future. A full queue refuses at once."""
        size = len(submission.commands)
        if self._stopping:
            submission.resolve(submission.unknown())
        elif self._queued + size > self._limits.queued_commands:
            # of what was sent before nobody may say that nothing happened: it may be in the queue
            busy = refusal("busy", retry_after=1)
            refused: list[Verdict] = [Refused(busy.code, busy.detail)] * size
            submission.resolve(submission.unknown() if submission.in_doubt else refused)
        else:
            self._queue.append(submission)
            self._queued += size
            self._wake.set()

    def stop(self) -> None:
        """Take nothing new; `run` ends when everything queued is answered."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Serve until `stop`. Errors: `LostLease`, after which everything queued is unknown."""
        try:
            while True:
                held: _Held | None = None
                try:
                    held = await self._take_over()
                    if held is not None:
                        await self._serve(held)
                    elif not self._stopping:
                        await self._refuse_while_stopped()
                        continue
                except (LostLease, asyncio.CancelledError):
                    raise
                except store.KeyStands:
                    log.info("writer.key_stands", ledger=self.ledger)
                    self._put_back(in_doubt=False)  # nothing was written
                except Exception as error:  # noqa: BLE001 - any surprise has the same remedy
                    log.warning(
                        "writer.surprised",
                        ledger=self.ledger,
                        error=type(error).__name__,
                        detail=str(error),
                    )
                    # who is fenced has written nothing
                    self._put_back(in_doubt=not isinstance(error, store.Fenced))
                    await asyncio.sleep(0.05)
                else:
                    return
                finally:
                    await _close(held)
        finally:
            self._stopping = True
            self._let_go()

    async def _take_over(self) -> _Held | None:
        """What the writer goes on from; None while the ledger is stopped."""
        if not await self._holds_lease():
            raise LostLease
        committing = await self._connect()
        try:
            replication = ReplicationWatch(committing)
            loading = await self._connect()
            epoch, book, tree = await store.take_over(committing, self.ledger, self._charts)
            replication.check()
        except stops.LedgerStopped:
            committing.terminate()
            return None
        except BaseException:
            committing.terminate()
            raise
        self.is_stopped = False
        if self.epoch not in (0, epoch - 1):
            self._let_go()
        self.committed_seq, self.epoch = book.seq, epoch
        self._cautious_until = time.monotonic() + CAUTION_S
        log.info("writer.taken_over", ledger=self.ledger, epoch=epoch, seq=book.seq)
        return _Held(epoch, book, tree, committing, replication, loading)

    def _let_go(self) -> None:
        """Answer everything with unknown: another writer had the ledger, or has it now, and whoever
        asked here may have asked there again and been refused."""
        for submission in [*self._aboard, *self._queue]:
            submission.resolve(submission.unknown())
        self._aboard = []
        self._queue.clear()
        self._queued = 0

    async def _refuse_while_stopped(self) -> None:
        """Refuse what waits, spend a resumption that was approved, look again within a second."""
        if not self.is_stopped:
            log.error("ledger.stopped", ledger=self.ledger)
        self.is_stopped = True
        found = refusal("ledger_stopped")
        for submission in self._queue:
            refused: list[Verdict] = [Refused(found.code, found.detail)]
            # what a failed commit may have carried is not ours to deny
            submission.resolve(
                submission.unknown() if submission.in_doubt else refused * len(submission.commands)
            )
        self._queue.clear()
        self._queued = 0
        self._wake.clear()
        connection = await self._connect()
        try:
            if await stops.resume_if_approved(connection, self.ledger):
                # the stop has raised it: what is queued from now on was asked of nobody else
                self.epoch = await store.epoch_of(connection, self.ledger)
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._wake.wait()
        finally:
            connection.terminate()

    def _put_back(self, *, in_doubt: bool) -> None:
        """Queue again, in order, what was not answered; its key tells whether it was committed."""
        remaining: list[Submission] = []
        for submission in self._aboard:
            if submission.answer.done():
                continue
            submission.attempts += 1
            submission.in_doubt = submission.in_doubt or in_doubt
            if submission.attempts >= self._limits.attempts:
                submission.resolve(submission.unknown())
            else:
                remaining.append(submission)
        self._aboard = []
        self._queue.extendleft(reversed(remaining))
        self._queued = sum(len(submission.commands) for submission in self._queue)
        self._wake.set()

    async def _serve(self, held: _Held) -> None:
        commit: asyncio.Task[None] | None = None
        try:
            while True:
                if commit is not None and commit.done():
                    await commit
                    commit = None
                if commit is not None and self._queued < self._limits.overlapping_commands:
                    await self._woken()
                    continue
                if not self._queue:
                    if self._stopping:
                        return
                    await self._woken()
                    continue
                submissions = self._next()
                exclusive = submissions[0].is_exclusive
                if exclusive and commit is not None:
                    await commit
                rows, drafts = await self._decide(held, submissions, commit)
                if commit is not None:
                    await commit
                commit = asyncio.create_task(self._commit(held, rows, submissions, drafts))
                commit.add_done_callback(lambda _: self._wake.set())
                if exclusive:
                    await commit
                    commit = None
                    if self._on_close and isinstance(submissions[0].commands[0], ClosePeriod):
                        await self._on_close()
        finally:
            if commit is not None:
                commit.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await commit

    async def _woken(self) -> None:
        """Wait for a submission, the end of a commit, or the order to stop."""
        self._wake.clear()
        await self._wake.wait()

    def _next(self) -> list[Submission]:
        """Whatever waits, until a batch is full; an exclusive submission comes alone."""
        submissions = [self._queue.popleft()]
        size = len(submissions[0].commands)
        while (
            self._queue
            and not submissions[0].is_exclusive
            and not self._queue[0].is_exclusive
            and size < self._limits.batch_commands
        ):
            submissions.append(self._queue.popleft())
            size += len(submissions[-1].commands)
        self._queued -= size
        self._aboard += submissions
        return submissions

    async def _decide(
        self, held: _Held, submissions: list[Submission], commit: asyncio.Task[None] | None
    ) -> tuple[store.Rows, list[list[Draft]]]:
        """Load what is lacking, and decide. `commit`: the one that is under way.

        What names something that can't be in a database at all is refused, once it is alone.
        """
        book, limits = held.book, self._limits
        memory.forget(
            book,
            accounts=limits.accounts,
            keys=limits.keys,
            originals=limits.originals,
            committed=self.committed_seq,
        )
        asked = [submission.commands for submission in submissions]
        lacks = fast.lacks_of(book, asked)
        assumed_new: set[bytes] = set()
        if self._takes_keys_for_new(submissions):
            assumed_new, lacks.digests = lacks.digests, assumed_new
        if lacks.accruals:
            lacks.earliest = memory.earliest_day(chain.from_iterable(asked))
            if commit is not None:
                await commit  # days are summed where the book stands, or entries would be missed
        try:
            await store.load(held.loading, book, lacks)
        except asyncpg.DataError as error:
            if len(submissions) > 1:
                raise  # each is tried by itself
            log.error("command.undecidable", ledger=self.ledger, error=type(error).__name__)  # noqa: TRY400
            return store.Rows(Batch(book, held.tree)), [[undecidable()] * len(asked[0])]
        if any(digest in book.keys for digest in lacks.digests):
            self._cautious_until = time.monotonic() + CAUTION_S
        batch = Batch(book, held.tree)
        drafts = await decide_all(book, batch, submissions, dt.datetime.now(dt.UTC))
        # The index refuses to commit a key that stands. What commits nothing it does not see.
        assumed_new.difference_update(batch.digests)
        if assumed_new and await store.find_keys(held.loading, assumed_new):
            if commit is not None:
                await commit  # or it would be cut off, and what it carries be in doubt
            raise store.KeyStands
        return store.Rows(batch), drafts

    def _takes_keys_for_new(self, submissions: list[Submission]) -> bool:
        """Not what stands alone: what it consumes or states is nothing to try. Nor what was sent before."""
        return time.monotonic() >= self._cautious_until and not any(
            submission.is_exclusive or submission.in_doubt for submission in submissions
        )

    async def _commit(
        self,
        held: _Held,
        rows: store.Rows,
        submissions: list[Submission],
        drafts: list[list[Draft]],
    ) -> None:
        batch = rows.batch
        if batch.raws:
            try:
                await store.commit(held.committing, rows, held.epoch)
            except store.ApprovalVoid:
                void = refusal("approval_invalid")
                self._answer(submissions, [[Refused(void.code, void.detail)]] * len(submissions))
                raise
        else:
            await store.stands_at(held.committing, self.ledger, held.epoch, batch.last_seq)
        held.replication.check()
        self.committed_seq = batch.last_seq
        if batch.raws and self._on_commit:
            self._on_commit(batch)
        replays = {
            draft.seq
            for submission, found in zip(submissions, drafts, strict=True)
            for draft in found
            if submission.with_events and isinstance(draft, Replay)
        }
        raws = await store.read_events(held.committing, self.ledger, replays) if replays else {}
        self._answer(
            submissions,
            [
                [verdict_of(draft, submission, raws) for draft in found]
                for submission, found in zip(submissions, drafts, strict=True)
            ],
        )

    def _answer(self, submissions: list[Submission], verdicts: list[list[Verdict]]) -> None:
        for submission, found in zip(submissions, verdicts, strict=True):
            submission.resolve(found)
        self._aboard = [submission for submission in self._aboard if not submission.answer.done()]


async def _close(held: _Held | None) -> None:
    """Cut the connections; a commit under way then ends by itself, one way or the other."""
    if held is not None:
        held.committing.terminate()
        held.loading.terminate()
