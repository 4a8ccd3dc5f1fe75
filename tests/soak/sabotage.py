"""Durability broken on purpose, in a writer's own process: the soak must find each of these.

Never imported by the product. What a second defence catches (the primary key of the journal, the
constraint on keys) is broken together with it, or the sabotage would do no harm.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from ledger_service.contract import failpoints
from ledger_service.domain.book import Replay
from ledger_service.engine import deciding, durability, store, writer


def answer_before_commit() -> None:
    """Verdicts leave while the transaction is not even begun."""

    async def answer_then_commit(self, held, rows, submissions, drafts):
        replays = {draft.seq for found in drafts for draft in found if isinstance(draft, Replay)}
        raws = await store.read_events(held.loading, self.ledger, replays)
        verdicts = [
            [deciding.verdict_of(draft, submission, raws) for draft in found]
            for submission, found in zip(submissions, drafts, strict=True)
        ]
        self._answer(submissions, verdicts)
        if rows.batch.raws:
            await store.commit(held.committing, rows, held.epoch)
            self._on_commit(rows.batch)
        self.committed_seq = rows.batch.last_seq

    writer.LedgerWriter._commit = answer_then_commit


def commit_in_pieces() -> None:
    """Each statement of a batch is durable by itself."""
    of_batch = (
        (
            "update ledger.head set seq = $4, root = $5, recorded_at = $6::text::timestamptz "
            "where ledger = $1 and epoch = $2 and seq = $3 returning true"
        ),
        (
            "insert into ledger.journal select $1, $2 + n.place, n.event_type, "
            "$3::text::timestamptz, n.bytes, n.leaf_hash from unnest($4::text[], $5::bytea[], "
            "$6::bytea[]) with ordinality as n (event_type, bytes, leaf_hash, place)"
        ),
        (
            "insert into ledger.idempotency select n.digest, $1, n.seq, n.request_hash "
            "from unnest($2::bytea[], $3::bigint[], $4::bytea[]) as n (digest, seq, request_hash)"
        ),
        (
            "update ledger.balance b set debits = n.debits, credits = n.credits, version = n.version "
            "from unnest($2::text::bigint[], $3::text::bigint[], $4::text::numeric[], "
            "$5::text::numeric[]) as n (number, version, debits, credits) "
            "where b.ledger = $1 and b.number = n.number"
        ),
    )

    async def commit(connection, rows, epoch):
        batch, balances = rows.batch, rows.balances
        head, journal, keys, moved = of_batch
        failpoints.reach("commit.before_begin")
        if not await connection.fetchval(
            head, batch.ledger, epoch, batch.first_seq, batch.last_seq, rows.root, batch.recorded_at
        ):
            raise store.Fenced
        failpoints.reach("commit.in_flight")
        await connection.execute(
            journal, batch.ledger, batch.first_seq, batch.recorded_at, batch.types, batch.raws,
            batch.leaf_hashes,
        )  # fmt: skip
        await connection.execute(
            keys, batch.ledger, batch.digests, batch.key_seqs, batch.request_hashes
        )
        failpoints.reach("commit.before_commit")
        columns = (balances[0], balances[2], balances[3], balances[4])
        await connection.execute(moved, batch.ledger, *columns)
        await store._write_records(connection, rows)
        failpoints.reach("commit.after_commit")

    store.commit = commit


def retry_blindly() -> None:
    """What was not answered is done again as if it had never been sent: under a key of its own."""
    put_back = writer.LedgerWriter._put_back

    def under_new_keys(self, *, in_doubt):
        put_back(self, in_doubt=in_doubt)
        for submission in self._queue:
            if submission.in_doubt:
                submission.commands = [_renamed(command) for command in submission.commands]

    writer.LedgerWriter._put_back = under_new_keys
    decide = deciding.decide_all

    async def decide_blindly(book, batch, submissions, now):
        for submission in submissions:
            if submission.in_doubt and not submission.attempts:
                submission.commands = [_renamed(command) for command in submission.commands]
        return await decide(book, batch, submissions, now)

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
