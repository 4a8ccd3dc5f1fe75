"""What an alert is: a list of events, and the state they come to.

An alert belongs to one rule, ledger, subject and episode; the episode is named by its first
evidence (`ledger/seq`), and so is the alert: whoever sees the same candidate names the same alert.
Events are only appended. `apply` is the one place that turns an event into state; the tables beside the events
are what `apply` gave, and `tally monitor verify` does it again from the start.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from base64 import b32encode
from decimal import Decimal
from typing import Any, Literal

import msgspec

Status = Literal["open", "escalated", "closed", "merged"]

MONITOR = "service:monitor"
"""The actor of what no person did."""


class Evidence(msgspec.Struct, frozen=True, order=True):
    """One ledger entry that made a rule fire; `amount` in minor units."""

    seq: int
    entry_no: int
    role: str
    amount: int
    currency: str


class Candidate(msgspec.Struct, frozen=True):
    """A row of the mart `alert_candidates` with its entries: what a rule says at one snapshot."""

    rule: str
    rule_version: str
    parameters_hash: str
    ledger: str
    subject: str
    subject_kind: str
    episode: str
    window_start: dt.datetime
    window_end: dt.datetime
    score: Decimal
    amount: int
    currency: str
    exponent: int
    why: str
    entries: tuple[Evidence, ...]

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Of what there is one alert."""
        return (self.rule, self.ledger, self.subject, self.episode)


class Event(msgspec.Struct, frozen=True, tag_field="type", kw_only=True):
    """What happened to an alert."""


class Fired(Event, frozen=True, kw_only=True):
    """What the rule said, and on which facts: kept with every event that a candidate caused."""

    rule_version: str
    parameters_hash: str
    snapshot_version: int
    as_of_seq: int
    window_start: dt.datetime
    window_end: dt.datetime
    score: Decimal
    amount: str
    """Minor units. Sum of the evidence in `roles`."""
    roles: list[str]
    """Which evidence the amount counts: a rule may show money in and money out and state one."""
    why: str


class Opened(Fired, frozen=True, tag="opened", kw_only=True):
    """A rule fired for the first time in this episode."""

    rule: str
    ledger: str
    subject: str
    subject_kind: str
    episode: str
    currency: str
    exponent: int
    evidence: list[Evidence]


class EvidenceAdded(Fired, frozen=True, tag="evidence_added", kw_only=True):
    """The same episode, with more entries."""

    evidence: list[Evidence]


class EpisodeLinked(Event, frozen=True, tag="episode_linked", kw_only=True):
    """Earlier evidence turned up, so the episode has another name too."""

    episode: str


class Reversal(msgspec.Struct, frozen=True):
    """A transaction of the evidence and the transaction that reversed it."""

    seq: int
    reversed_by: int


class Corrected(Event, frozen=True, tag="corrected", kw_only=True):
    """Entries that counted no longer do. The alert stays: a person decides what that means."""

    snapshot_version: int
    as_of_seq: int
    removed: list[Evidence]
    reversals: list[Reversal]
    """Which of the removed were reversed, and by what."""
    amount: str
    why: str


class Merged(Event, frozen=True, tag="merged", kw_only=True):
    """Two episodes turned out to be one; the evidence goes on in the other alert."""

    into: str


class Closed(Event, frozen=True, tag="closed", kw_only=True):
    """Compliance found nothing to pursue."""

    reason: str


class Escalated(Event, frozen=True, tag="escalated", kw_only=True):
    """Compliance takes it further."""

    reason: str


class Reopened(Event, frozen=True, tag="reopened", kw_only=True):
    """Back to open: by a person, or by the monitor because evidence came after closing."""

    reason: str


AlertEvent = (
    Opened | EvidenceAdded | EpisodeLinked | Corrected | Merged | Closed | Escalated | Reopened
)


class Alert(msgspec.Struct, kw_only=True):
    """The state of an alert after `version` events."""

    alert_id: str
    version: int
    rule: str
    ledger: str
    subject: str
    subject_kind: str
    status: Status
    merged_into: str | None = None
    rule_version: str
    parameters_hash: str
    snapshot_version: int
    as_of_seq: int
    window_start: dt.datetime
    window_end: dt.datetime
    score: Decimal
    amount: int
    currency: str
    exponent: int
    roles: list[str]
    why: str
    corrected: bool = False
    opened_at: dt.datetime
    changed_at: dt.datetime
    decided_by: str | None = None
    reason: str | None = None
    episodes: list[str]
    evidence: dict[Evidence, tuple[int, int | None]]
    """Each with the version that added it and the one that removed it."""

    @property
    def counted(self) -> frozenset[Evidence]:
        """The evidence that holds: added and not removed."""
        return frozenset(
            entry for entry, (_, removed_by) in self.evidence.items() if removed_by is None
        )


def alert_id(key: tuple[str, str, str, str]) -> str:
    """The name of the alert of (rule, ledger, subject, episode): the same wherever it is made."""
    digest = hashlib.sha256("\x1f".join(key).encode()).digest()
    return "alr_" + b32encode(digest[:15]).decode().lower()


_RULE_FIELDS = tuple(name for name in Fired.__struct_fields__ if name != "amount")


def _opened(event: Opened, name: str, actor_time: dt.datetime) -> Alert:
    fields = {name: getattr(event, name) for name in _RULE_FIELDS}
    return Alert(
        alert_id=name,
        version=1,
        rule=event.rule,
        ledger=event.ledger,
        subject=event.subject,
        subject_kind=event.subject_kind,
        status="open",
        amount=int(event.amount),
        currency=event.currency,
        exponent=event.exponent,
        opened_at=actor_time,
        changed_at=actor_time,
        episodes=[event.episode],
        evidence=dict.fromkeys(event.evidence, (1, None)),
        **fields,
    )


def apply(
    alert: Alert | None, event: AlertEvent, name: str, actor: str, moment: dt.datetime
) -> Alert:
    """The state after `event`; a new object. `alert` is None for `Opened` and only then."""
    if isinstance(event, Opened):
        return _opened(event, name, moment)
    if alert is None:
        raise LookupError(f"alert {name} has no event `opened`")
    version = alert.version + 1
    change: dict[str, Any] = {"version": version, "changed_at": moment}
    evidence = dict(alert.evidence)
    match event:
        case EvidenceAdded():
            evidence |= dict.fromkeys(event.evidence, (version, None))
            change |= {field: getattr(event, field) for field in _RULE_FIELDS} | {
                "amount": int(event.amount)
            }
        case Corrected():
            evidence |= {entry: (evidence[entry][0], version) for entry in event.removed}
            change |= {
                "amount": int(event.amount),
                "corrected": True,
                "snapshot_version": event.snapshot_version,
                "as_of_seq": event.as_of_seq,
            }
        case EpisodeLinked():
            change["episodes"] = sorted({*alert.episodes, event.episode})
        case Merged():
            change |= {"status": "merged", "merged_into": event.into}
        case Closed():
            change |= {"status": "closed", "decided_by": actor, "reason": event.reason}
        case Escalated():
            change |= {"status": "escalated", "decided_by": actor, "reason": event.reason}
        case Reopened():
            change |= {"status": "open", "decided_by": actor, "reason": event.reason}
    return msgspec.structs.replace(alert, evidence=evidence, **change)


def event_name(event: AlertEvent) -> str:
    """The event's type, e.g. `evidence_added`."""
    return str(event.__struct_config__.tag)


def encode(event: AlertEvent) -> dict[str, Any]:
    """The event as JSON values; amounts as text, as everywhere in JSON."""
    body: dict[str, Any] = msgspec.to_builtins(event, builtin_types=())
    for entry in body.get("evidence", []) + body.get("removed", []):
        entry["amount"] = str(entry["amount"])
    return body


def decode(body: dict[str, Any]) -> AlertEvent:
    """An event from its JSON values. Errors: `msgspec.ValidationError`."""
    return msgspec.convert(body, AlertEvent, strict=False)


def counted_roles(candidate: Candidate) -> list[str]:
    """The roles whose entries sum to the candidate's amount; empty where none do (a rule's defect).

    Some rules state the whole evidence, some only one direction of it.
    """
    sums: dict[str, int] = {}
    for entry in candidate.entries:
        sums[entry.role] = sums.get(entry.role, 0) + entry.amount
    if sum(sums.values()) == candidate.amount:
        return sorted(sums)
    return [role for role, total in sorted(sums.items()) if total == candidate.amount][:1]
