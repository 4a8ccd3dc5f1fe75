"""From submissions to a batch and verdicts that wait for its commit."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Mapping, Sequence

import msgspec
import structlog

from ledger_service.contract import logs
from ledger_service.contract.events import EVENT_MAX_BYTES, JournalEvent, encode, timestamp
from ledger_service.domain.book import Book, Replay
from ledger_service.domain.chart import Chart
from ledger_service.domain.commands import (
    KEYED,
    Command,
    ExpireHold,
    Keyed,
    OpenLedger,
    PostTransaction,
    ReverseTransaction,
    approval_of,
)
from ledger_service.domain.errors import Refusal, refusal
from ledger_service.domain.opening import open_ledger
from ledger_service.domain.period_commands import ClosePeriod, ReopenPeriod
from ledger_service.domain.rule_commands import Declaring
from ledger_service.engine import fast
from ledger_service.engine.batch import Batch
from ledger_service.engine.protocol import Committed, Possible, Refused, Unknown, Verdict

log = structlog.get_logger()

_AT_ONCE = 256
"""Commands that the lane takes without looking up."""
_TURN_S = 0.002
"""After which the commit that is under way gets the processor again."""


class Submission(msgspec.Struct, eq=False):
    """What one request asks, and the promise of its answer."""

    commands: Sequence[Command]
    linked: bool
    deadline: float
    """On the monotonic clock."""
    in_doubt: bool
    with_events: bool
    answer: asyncio.Future[list[Verdict]]
    dry_run: bool = False
    """Decide all, each upon those before it, and change nothing."""
    attempts: int = 0
    """Commits that failed with it aboard."""
    stands_alone: bool = False

    def __post_init__(self) -> None:
        self.stands_alone = (
            len(self.commands) == 1
            and not fast.are_plain(self.commands)
            and _is_exclusive(self.commands[0])
        )

    @property
    def is_exclusive(self) -> bool:
        """Whether it is committed alone: it consumes an approval, states what the books hold, declares
        what others rest on, or a commit failed with it.
        """
        return self.attempts > 0 or self.stands_alone

    def resolve(self, verdicts: list[Verdict]) -> None:
        """Answer, unless the caller has gone."""
        if not self.answer.done():
            self.answer.set_result(verdicts)

    def unknown(self) -> list[Verdict]:
        """The answer when nothing better can be said."""
        return [Unknown(lookup_of(command)) for command in self.commands]


def deadline_in(seconds: float) -> float:
    """A submission's deadline, on the monotonic clock."""
    return time.monotonic() + seconds


def _is_exclusive(command: Command) -> bool:
    if type(command) is PostTransaction:
        return command.corrects is not None
    return isinstance(command, ReverseTransaction | ReopenPeriod | ClosePeriod | Declaring)


class Applied(msgspec.Struct):
    """An event in the book that is not in a batch yet."""

    event: JournalEvent
    raw: bytes
    key: tuple[bytes, bytes] | None
    versions: dict[str, int]
    """Of the accounts it touched, before."""


Draft = Committed | Replay | Refused | Possible
"""A verdict before the commit; a replay's event is read after it."""


def lookup_of(command: Command) -> str:
    """By what a command's effect can be found: the digest of its key, or its subject."""
    if isinstance(command, Keyed):
        return command.digest.hex()
    return getattr(command, "account", None) or getattr(command, "ledger", "")


async def decide_all(
    book: Book, batch: Batch, submissions: Sequence[Submission], now: dt.datetime
) -> list[list[Draft]]:
    """Decide submissions in order, all at the moment `now`; applies what is decided and gathers it in
    `batch`."""
    drafts: list[list[Draft]] = []
    turn_ends = time.monotonic() + _TURN_S
    lane = fast.Lane(book, batch, now) if fast.Lane else None
    for submission in submissions:
        if time.monotonic() > submission.deadline and not submission.in_doubt:
            late: list[Draft] = [_refused(refusal("deadline_passed"))]
            drafts.append(late * len(submission.commands))
        elif submission.dry_run or (submission.linked and not submission.stands_alone):
            drafts.append(_decide_together(book, batch, submission, now))
        else:
            found: list[Draft] = []
            commands = submission.commands
            while len(found) < len(commands):
                until = min(len(commands), len(found) + _AT_ONCE)
                if lane is not None:
                    lane.take(commands, len(found), until, submission.with_events, found)
                if len(found) < until:
                    found.append(_carry_out(book, batch, commands[len(found)], now, submission))
                if time.monotonic() > turn_ends:
                    await asyncio.sleep(0)
                    turn_ends = time.monotonic() + _TURN_S
            if submission.stands_alone:
                _expect_approval(batch, submission, found)
            drafts.append(found)
    return drafts


def rehearse_opening(command: OpenLedger, charts: Mapping[str, Chart]) -> Verdict:
    """What opening a ledger that is not there would come to; nothing is made for it."""
    found = open_ledger(command, command.ledger, charts, timestamp(dt.datetime.now(dt.UTC)))
    return _refused(found) if isinstance(found, Refusal) else Possible(encode(found[0]))


def _events(
    book: Book, command: Command, now: dt.datetime, submission: Submission
) -> tuple[list[JournalEvent], list[bytes]] | Draft:
    """What a command leads to, with the canonical bytes, or the answer where it leads to nothing."""
    if _is_exclusive(command) and not submission.stands_alone:
        # a commit consumes one approval: among others this command's own might not be it
        return _refused(refusal("not_by_itself"))
    try:
        decision = book.decide(command, now)
        raws = [encode(event) for event in decision] if isinstance(decision, list) else []
    except Exception as error:  # noqa: BLE001 - nothing has changed yet: one command's fault is not the others'
        log.error(  # noqa: TRY400 - a message may quote what the caller sent
            "command.undecidable",
            ledger=book.ledger,
            error=type(error).__name__,
            at=logs.places_of(error),
        )
        return undecidable()
    if not isinstance(decision, list):
        return decision if isinstance(decision, Replay) else _refused(decision)
    if len(raws[0]) > EVENT_MAX_BYTES:
        return _refused(refusal("event_too_large"))
    if not isinstance(command, ExpireHold) and command.dry_run:
        return Possible(raws[0])
    return decision, raws


def _carry_out(
    book: Book, batch: Batch, command: Command, now: dt.datetime, submission: Submission
) -> Draft:
    found = _events(book, command, now, submission)
    if not isinstance(found, tuple):
        return found
    events, raws = found
    key = _key(command)
    for event, raw in zip(events, raws, strict=True):
        # In this order: the batch takes the accounts' versions as they were before.
        batch.add(event, raw, key)
        book.apply(event, key)
    shown = raws[0] if submission.with_events else b""
    return Committed(events[0].seq, shown, replayed=False)


def _key(command: Command) -> tuple[bytes, bytes] | None:
    """Digest and request hash of a command that has an idempotency key."""
    if isinstance(command, KEYED):
        return command.digest, command.request_hash
    return None


def _decide_together(
    book: Book, batch: Batch, submission: Submission, now: dt.datetime
) -> list[Draft]:
    """All or nothing: where they are linked the first refusal takes back what came before it. A dry
    run takes back everything.
    """
    applied: list[Applied] = []
    drafts: list[Draft] = []
    book.begin()
    for command in submission.commands:
        found = _events(book, command, now, submission)
        if isinstance(found, tuple):
            events, raws = found
            key = _key(command)
            for event, raw in zip(events, raws, strict=True):
                if submission.dry_run and key is None:
                    break  # only what moves money can be taken back
                versions = {name: book.accounts[name].version for name in book.touched(event)}
                applied.append(Applied(event, raw, key, versions))
                book.apply(event, key)
            shown = raws[0] if submission.with_events else b""
            drafts.append(
                Possible(shown)
                if submission.dry_run
                else Committed(events[0].seq, shown, replayed=False)
            )
            continue
        drafts.append(found)
        if isinstance(found, Refused) and submission.linked:
            book.take_back()
            others = _refused(refusal("linked_batch_refused", item=len(drafts) - 1))
            verdicts: list[Draft] = list([others] * len(submission.commands))
            verdicts[len(drafts) - 1] = found
            return verdicts
    if submission.dry_run:
        book.take_back()
        return drafts
    book.keep()
    for item in applied:
        batch.add(item.event, item.raw, item.key, item.versions)
    return drafts


def _expect_approval(batch: Batch, submission: Submission, drafts: list[Draft]) -> None:
    """What needs an approval consumes it in its own commit."""
    for command, draft in zip(submission.commands, drafts, strict=True):
        approval = approval_of(batch.ledger, command)
        if approval is not None and isinstance(draft, Committed):
            batch.approval = *approval, draft.seq


def verdict_of(draft: Draft, submission: Submission, raws: Mapping[int, bytes]) -> Verdict:
    """What a draft comes to after its commit. `raws`: the events of replays, by `seq`."""
    if isinstance(draft, Replay):
        return Committed(draft.seq, raws.get(draft.seq, b""), replayed=not submission.in_doubt)
    return draft


def undecidable() -> Refused:
    """The answer to what fails before anything has changed: nothing has happened, and never will."""
    return _refused(refusal("undecidable"))


def _refused(found: Refusal) -> Refused:
    return Refused(found.code, found.detail)
