"""Durability broken on purpose, in a writer's own process: the soak must find each of these.

Never imported by the product. What a second defence catches (the primary key of the journal, the
constraint on keys) is broken together with it, or the sabotage would do no harm.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable

import msgspec

from ledger_service.domain.book import Replay
from ledger_service.engine import deciding, durability, store, writer


def answer_before_commit() -> None:
    """Verdicts leave while the transaction is not even begun."""

    async def answer_then_commit(self, held, rows, submissions, drafts):
        replays = {draft.seq for found in drafts for draft in found if isinstance(draft, Replay)}
        raws = await store.read_events(held.loading, self.ledger, replays)
        verdicts = [
            [writer._verdict(draft, submission, raws) for draft in found]
            for submission, found in zip(submissions, drafts, strict=True)
        ]
        self._answer(submissions, verdicts)
        if rows.batch.journal:
            await store.commit(held.committing, rows, held.epoch)
        self.committed_seq = rows.batch.last_seq

    writer.LedgerWriter._commit = answer_then_commit


def commit_in_pieces() -> None:
    """Each statement of a batch is durable by itself."""
    commit = store.commit

    async def without_transaction(connection, rows, epoch):
        class Piecewise:
            def __getattr__(self, name):
                return getattr(connection, name)

            def transaction(self):
                return contextlib.AsyncExitStack()

        await commit(Piecewise(), rows, epoch)

    store.commit = without_transaction


def retry_blindly() -> None:
    """What was not answered is done again as if it had never been sent: under a key of its own."""
    put_back = writer.LedgerWriter._put_back

    def under_new_keys(self):
        put_back(self)
        for submission in self._queue:
            if submission.in_doubt:
                submission.commands = [_renamed(command) for command in submission.commands]

    writer.LedgerWriter._put_back = under_new_keys
    decide = deciding.decide_all

    async def decide_blindly(book, batch, submissions):
        for submission in submissions:
            if submission.in_doubt and not submission.attempts:
                submission.commands = [_renamed(command) for command in submission.commands]
        return await decide(book, batch, submissions)

    writer.decide_all = decide_blindly


def _renamed(command):
    if not hasattr(command, "digest"):
        return command
    return msgspec.structs.replace(command, digest=hashlib.sha256(command.digest).digest())


def drop_the_probe() -> None:
    """Keys of earlier batches are not looked up; the constraint in the database is the backstop."""
    load = store.load

    async def without_keys(connection, book, lacks):
        lacks.digests.clear()
        await load(connection, book, lacks)

    store.load = without_keys


def commit_asynchronously() -> None:
    """The writer's sessions don't wait for the log: synchronous_commit is off."""
    durability.SESSION["synchronous_commit"] = "off"


ALL: dict[str, Callable[[], None]] = {
    function.__name__: function
    for function in (
        answer_before_commit,
        commit_in_pieces,
        retry_blindly,
        drop_the_probe,
        commit_asynchronously,
    )
}


def commit(name: str) -> None:
    """Carry out the sabotage of this name; none for an empty one."""
    if name:
        ALL[name]()
