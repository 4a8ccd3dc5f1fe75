"""Judges a ledger by nothing but the clients' own histories.

The ledger's side is its journal as it stands afterwards; whatever it says against a client, or
against the rules as the reference ledger knows them, is a violation, in words.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from ledger_service.contract.events import (
    AccountChanged,
    HoldPlaced,
    HoldReleased,
    JournalEvent,
    TransactionPosted,
    decode_journal,
)
from ledger_service.domain.commands import key_digest
from tests.asking import Ask, Line
from tests.reference_ledger import AccountState, ReferenceLedger, legs_of, signed
from tests.soak.client import LINKED
from tests.soak.history import Done, Heard, Outcome, Refused, Sent

_KINDS: dict[str, type[TransactionPosted | HoldPlaced | HoldReleased | AccountChanged]] = {
    "post": TransactionPosted,
    "capture": TransactionPosted,
    "reverse": TransactionPosted,
    "hold": HoldPlaced,
    "void": HoldReleased,
    "status": AccountChanged,
}


@dataclasses.dataclass
class Claim:
    """All that a client knows of one of its commands."""

    ask: Ask
    sent_at: int
    """When it was sent the first time."""
    seq: int | None = None
    """0 where it is done and the answer did not say where."""
    event: str = ""
    """SHA-256 of the event, where an answer was the event."""
    answered_at: int | None = None
    """When it was acknowledged the first time."""
    found: int | None = None
    """What a look-up by its key gave, where it was never acknowledged."""
    refused: str | None = None
    in_doubt: bool = False
    """Whether an outcome was lost on the way."""


@dataclasses.dataclass
class Judgement:
    """Figures, and what is wrong; nothing is, where `violations` is empty."""

    violations: list[str] = dataclasses.field(default_factory=list)
    done: Counter[str] = dataclasses.field(default_factory=Counter)
    """Commands in the ledger by what they do; holds that expired among them."""
    acknowledged: int = 0
    refused: int = 0
    doubtful: int = 0
    """Outcomes that were lost on the way at least once."""
    found: int = 0
    """Never acknowledged, but in the ledger, under their key."""
    absent: int = 0
    """Never acknowledged nor refused, and not in the ledger."""
    unsettled: Counter[str] = dataclasses.field(default_factory=Counter)
    """Why outcomes were lost: codes of answers, and kinds of broken connections."""
    unforeseen: Counter[str] = dataclasses.field(default_factory=Counter)
    """Errors that the API had no name for."""


class Judge:
    """Collects histories, then looks at a journal. `floors`: as the reference ledger takes them."""

    def __init__(self, ledger: str, floors: Mapping[str, int | None]) -> None:
        self._ledger = ledger
        self.claims: dict[str, Claim] = {}
        self._linked: list[list[str]] = []
        self._reference = ReferenceLedger(floors)
        self.result = Judgement()

    def hear(self, history: Iterable[Sent | Heard]) -> None:
        """Take in one client's history."""
        requests: dict[int, list[Ask]] = {}
        for record in history:
            if isinstance(record, Heard):
                for ask, outcome in zip(requests[record.number], record.outcomes, strict=True):
                    self._note(self.claims[ask.key], outcome, record.at)
                continue
            if record.form in LINKED:
                self._linked.append([ask.key for ask in record.asks])
            requests[record.number] = record.asks
            for ask in record.asks:
                self.claims.setdefault(ask.key, Claim(ask, record.at))

    def _note(self, claim: Claim, outcome: Outcome, at: int) -> None:
        key = claim.ask.key
        match outcome:
            case None:
                claim.in_doubt = True
            case Done(seq, event):
                if claim.seq not in (None, seq):
                    self.wrong(f"{key} was answered with seq {claim.seq} and {seq}")
                if event and claim.event not in ("", event):
                    self.wrong(f"{key} was answered with two different events")
                if claim.seq is None:
                    claim.seq, claim.answered_at = seq, at
                claim.event = claim.event or event
            case Refused(code):
                claim.refused = code
        if claim.seq is not None and claim.refused is not None:
            self.wrong(f"{key} was both committed at {claim.seq} and {claim.refused}")

    def look_at(self, journal: Sequence[tuple[int, bytes]]) -> Judgement:
        """Judge. `journal`: every `seq` with its event's bytes, as stored."""
        by_digest = {key_digest(self._ledger, key).hex(): key for key in self.claims}
        stands: defaultdict[str, list[int]] = defaultdict(list)
        recorded_at = ""
        for expected, (seq, raw) in enumerate(journal, 1):
            event = decode_journal(raw)
            if seq != expected or event.seq != seq:
                self.wrong(f"seq {expected} is missing or stands elsewhere: found {seq}")
                break
            if event.recorded_at < recorded_at:
                self.wrong(f"recorded_at went back at seq {seq}")
            recorded_at = event.recorded_at
            key = _key_of(event, by_digest)
            if key is not None:
                stands[key].append(seq)
                self._hold_against(self.claims.get(key), event, raw)
            elif isinstance(event, HoldReleased):
                self._expire(event)
        for key, claim in self.claims.items():
            self._compare(claim, stands[key])
        self._all_or_nothing()
        self._real_time_order()
        self._reference.recount()
        return self.result

    def _hold_against(self, claim: Claim | None, event: JournalEvent, raw: bytes) -> None:
        """One event against what its client asked, and against what the rules allow there."""
        seq = event.seq
        if claim is None:
            self.wrong(f"seq {seq} was sent by nobody")
            return
        ask, reference = claim.ask, self._reference
        if claim.event and hashlib.sha256(raw).hexdigest() != claim.event:
            self.wrong(f"{ask.key} was answered with another event than stands at {seq}")
        if ask.key in reference.keys:
            return  # it stands twice, which is said elsewhere
        if why_not := reference.why_not(ask, event.recorded_at):
            self.wrong(f"{ask.key} stands at {seq}, and had to be refused: {why_not}")
            return
        if not _is_what_was_asked(event, ask, reference.lines_of(ask)):
            self.wrong(f"{ask.key} has another content than was sent")
            return
        reference.take(seq, ask)
        self.result.done[ask.do] += 1

    def _expire(self, event: HoldReleased) -> None:
        reference, hold = self._reference, event.hold
        why_not = reference.why_not_expire(hold, event.recorded_at)
        if why_not:
            self.wrong(f"the hold of seq {hold} expired at {event.seq}: {why_not}")
            return
        if legs_of(signed(event.entries)) != reference.held[hold].left:
            self.wrong(f"the hold of seq {hold} gave back at {event.seq} what was not left of it")
        reference.release(hold)
        self.result.done["expired"] += 1

    def _compare(self, claim: Claim, places: list[int]) -> None:
        key, result = claim.ask.key, self.result
        result.doubtful += claim.in_doubt
        if len(places) > 1:
            self.wrong(f"{key} stands {len(places)} times: {places}")
        if claim.refused is not None:
            result.refused += 1
            if places:
                self.wrong(f"{key} was refused ({claim.refused}) and stands at {places[0]}")
        elif claim.seq is not None:
            result.acknowledged += 1
            is_there = places == [claim.seq] if claim.seq else len(places) == 1
            if not is_there:
                self.wrong(f"{key} was acknowledged at {claim.seq} and stands at {places}")
        else:
            result.found += bool(places)
            result.absent += not places
            if claim.found is not None and places != [claim.found]:
                self.wrong(f"{key} was found by its key at {claim.found} and is not there")
        if places:
            claim.seq = claim.seq or places[0]

    def _all_or_nothing(self) -> None:
        for keys in self._linked:
            present = {self.claims[key].seq is not None for key in keys}
            if len(present) > 1:
                self.wrong(f"the linked batch of {keys[0]} is there in part")

    def _real_time_order(self) -> None:
        """If A was answered before B was sent, then A stands before B."""
        answered = sorted(
            (claim.answered_at, claim.seq, claim.ask.key)
            for claim in self.claims.values()
            if claim.answered_at is not None and claim.seq
        )
        place, latest, latest_key = 0, 0, ""
        for claim in sorted(self.claims.values(), key=lambda claim: claim.sent_at):
            while place < len(answered) and answered[place][0] < claim.sent_at:
                if answered[place][1] > latest:
                    _, latest, latest_key = answered[place]
                place += 1
            if claim.seq and claim.seq < latest:
                self.wrong(
                    f"{latest_key} was answered at seq {latest} before {claim.ask.key} was sent, "
                    f"which stands at {claim.seq}"
                )

    def compare_accounts(self, stated: Mapping[str, AccountState]) -> None:
        """Each account as the ledger states it against what the clients' commands lead to."""
        for account, due in self._reference.accounts().items():
            if stated.get(account) != due:
                found = stated.get(account)
                self.wrong(f"{account} has {found}, the clients' commands say {due}")

    def wrong(self, text: str) -> None:
        """Note a violation."""
        self.result.violations.append(text)


def _key_of(event: JournalEvent, by_digest: Mapping[str, str]) -> str | None:
    """The key under which an event was asked for; None where none belongs to it."""
    if isinstance(event, AccountChanged):
        return event.reason
    digest = getattr(event, "idempotency_digest", None)
    return digest and by_digest.get(digest, digest)


def _is_what_was_asked(event: JournalEvent, ask: Ask, lines: list[Line]) -> bool:
    """Whether an event is a command's; `lines`: what the command moves, by the rules."""
    if not isinstance(event, _KINDS[ask.do]):
        return False
    if isinstance(event, AccountChanged):
        return (event.account, event.status) == (ask.account, ask.status)
    if legs_of(signed(event.entries)) != legs_of(lines):
        return False
    if isinstance(event, HoldPlaced):
        return event.expires_at == ask.expires_at
    if isinstance(event, HoldReleased):
        return event.hold == ask.of
    named = {"capture": event.captures, "reverse": event.reverses}.get(ask.do)
    return (named or 0, event.imposed) == (ask.of, ask.imposed)
