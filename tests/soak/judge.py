"""Judges a ledger by nothing but the clients' own histories.

The ledger's side is its journal as it stands afterwards; whatever it says against a client is a
violation, in words.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from ledger_service.contract.events import TransactionPosted, decode_journal
from ledger_service.domain.commands import key_digest
from tests.soak.history import Heard, Item, Sent


@dataclasses.dataclass
class Claim:
    """All that a client knows of one of its transactions."""

    item: Item
    sent_at: int
    """When it was sent the first time."""
    seq: int | None = None
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
    transactions: int = 0
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
    balances: dict[str, int] = dataclasses.field(default_factory=dict)
    """Of each account, from the clients' own lines: debits less credits."""


class Judge:
    """Collects histories, then looks at a journal."""

    def __init__(self, ledger: str) -> None:
        self._ledger = ledger
        self.claims: dict[str, Claim] = {}
        self._linked: list[list[str]] = []
        self.result = Judgement()

    def hear(self, history: Iterable[Sent | Heard]) -> None:
        """Take in one client's history."""
        requests: dict[int, list[Item]] = {}
        for record in history:
            if isinstance(record, Heard):
                for item, outcome in zip(requests[record.number], record.outcomes, strict=True):
                    self._note(self.claims[item.key], outcome, record.at)
                continue
            if record.form == "linked":
                self._linked.append([item.key for item in record.items])
            requests[record.number] = record.items
            for item in record.items:
                self.claims.setdefault(item.key, Claim(item, record.at))

    def _note(self, claim: Claim, outcome: Sequence[object] | None, at: int) -> None:
        match outcome:
            case None:
                claim.in_doubt = True
            case ("committed", int(seq)):
                if claim.seq not in (None, seq):
                    self.wrong(f"{claim.item.key} was answered with seq {claim.seq} and {seq}")
                if claim.seq is None:
                    claim.seq, claim.answered_at = seq, at
            case ("refused", str(code)):
                claim.refused = code
        if claim.seq is not None and claim.refused is not None:
            self.wrong(f"{claim.item.key} was both committed at {claim.seq} and {claim.refused}")

    def look_at(self, journal: Sequence[tuple[int, bytes]]) -> Judgement:
        """Judge. `journal`: every `seq` with its event's bytes, as stored."""
        by_digest: defaultdict[str, list[TransactionPosted]] = defaultdict(list)
        recorded_at = ""
        for expected, (seq, raw) in enumerate(journal, 1):
            event = decode_journal(raw)
            if seq != expected or event.seq != seq:
                self.wrong(f"seq {expected} is missing or stands elsewhere: found {seq}")
                break
            if event.recorded_at < recorded_at:
                self.wrong(f"recorded_at went back at seq {seq}")
            recorded_at = event.recorded_at
            if isinstance(event, TransactionPosted):
                by_digest[event.idempotency_digest].append(event)
        for key, claim in self.claims.items():
            digest = key_digest(self._ledger, key).hex()
            self._compare(claim, by_digest.pop(digest, []))
        for digest, events in by_digest.items():
            self.wrong(f"seq {events[0].seq} was sent by nobody (digest {digest[:12]})")
        self._all_or_nothing()
        self._real_time_order()
        return self.result

    def _compare(self, claim: Claim, events: list[TransactionPosted]) -> None:
        key, result = claim.item.key, self.result
        result.doubtful += claim.in_doubt
        if len(events) > 1:
            self.wrong(f"{key} stands {len(events)} times: {[event.seq for event in events]}")
        if claim.refused is not None:
            result.refused += 1
            if events:
                self.wrong(f"{key} was refused ({claim.refused}) and stands at {events[0].seq}")
            return
        if claim.seq is not None:
            result.acknowledged += 1
            if [event.seq for event in events] != [claim.seq]:
                places = [event.seq for event in events]
                self.wrong(f"{key} was acknowledged at {claim.seq} and stands at {places}")
        else:
            result.found += bool(events)
            result.absent += not events
            if claim.found is not None and [event.seq for event in events] != [claim.found]:
                self.wrong(f"{key} was found by its key at {claim.found} and is not there")
        for event in events:
            result.transactions += 1
            entries = [
                (entry.account, int(entry.amount) * (1 if entry.side == "debit" else -1))
                for entry in event.entries
            ]
            if entries != claim.item.lines:
                self.wrong(f"{key} has another content than was sent")
        if events:
            claim.seq = claim.seq or events[0].seq
            for account, amount in claim.item.lines:
                result.balances[account] = result.balances.get(account, 0) + amount

    def _all_or_nothing(self) -> None:
        for keys in self._linked:
            present = {self.claims[key].seq is not None for key in keys}
            if len(present) > 1:
                self.wrong(f"the linked batch of {keys[0]} is there in part")

    def _real_time_order(self) -> None:
        """If A was answered before B was sent, then A stands before B."""
        answered = sorted(
            (claim.answered_at, claim.seq, claim.item.key)
            for claim in self.claims.values()
            if claim.answered_at is not None and claim.seq is not None
        )
        place, latest, latest_key = 0, 0, ""
        for claim in sorted(self.claims.values(), key=lambda claim: claim.sent_at):
            while place < len(answered) and answered[place][0] < claim.sent_at:
                if answered[place][1] > latest:
                    _, latest, latest_key = answered[place]
                place += 1
            if claim.seq is not None and claim.seq < latest:
                self.wrong(
                    f"{latest_key} was answered at seq {latest} before {claim.item.key} was sent, "
                    f"which stands at {claim.seq}"
                )

    def compare_balances(self, balances: dict[str, int], *, but: Sequence[str] = ()) -> None:
        """The ledger's balances (debits less credits) against those of the clients' lines."""
        for account in {*balances, *self.result.balances} - set(but):
            due = self.result.balances.get(account, 0)
            if balances.get(account, 0) != due:
                self.wrong(f"{account} has {balances.get(account)}, the clients' lines say {due}")

    def wrong(self, text: str) -> None:
        """Note a violation."""
        self.result.violations.append(text)
