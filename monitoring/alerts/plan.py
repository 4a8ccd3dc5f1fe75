"""Candidates of a snapshot against the alerts that exist: which events to append. No I/O.

Rules that hold whatever the order of rows, however often and by how many it is run:

- one alert per rule, ledger, subject and episode; more evidence is added to it;
- the same candidates again add nothing; a rebuild that lost candidates removes nothing;
- a snapshot older than what an alert has seen tells it nothing;
- evidence that was reversed is taken back by an event that names the reversal;
- episodes that grow together are linked: the alert that was there first goes on.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from monitoring.alerts.alert import (
    MONITOR,
    Alert,
    AlertEvent,
    Candidate,
    Corrected,
    EpisodeLinked,
    Evidence,
    EvidenceAdded,
    Merged,
    Opened,
    Reopened,
    Reversal,
    alert_id,
    apply,
    counted_roles,
)


class Snapshot(msgspec.Struct, frozen=True):
    """What a published snapshot says about alerts."""

    version: int
    as_of: Mapping[str, int]
    candidates: tuple[Candidate, ...]
    reversed_by: Mapping[tuple[str, int], int]
    """(ledger, seq) of a reversed transaction: the `seq` of its (last) reversal."""


class Plan:
    """Events to append, in order, and the alerts as they are after them."""

    def __init__(self, snapshot: Snapshot, alerts: Iterable[Alert], moment: dt.datetime) -> None:
        self.snapshot = snapshot
        self.alerts = {alert.alert_id: alert for alert in alerts}
        self.events: list[tuple[str, AlertEvent]] = []
        self._moment = moment
        self._by_episode = {
            (alert.rule, alert.ledger, alert.subject, episode): alert.alert_id
            for alert in self.alerts.values()
            for episode in alert.episodes
        }
        self._present = {candidate.key for candidate in snapshot.candidates}
        claims: dict[str, list[Candidate]] = {}
        for candidate in sorted(snapshot.candidates, key=_in_order):
            claims.setdefault(self._alert_of(candidate), []).append(candidate)
        for name, claimed in claims.items():
            if not self._is_older(self.alerts[name]):
                self._follow(name, _joined(claimed))
        for name in sorted(self.alerts):
            self._take_back_reversed(self.alerts[name])

    def _append(self, name: str, event: AlertEvent) -> None:
        self.alerts[name] = apply(self.alerts.get(name), event, name, MONITOR, self._moment)
        self.events.append((name, event))

    def _alert_of(self, candidate: Candidate) -> str:
        """The alert in which this candidate counts; opened, linked or merged into where needed."""
        overlapping = self._overlapping(candidate)
        name = self._by_episode.get(candidate.key)
        if name is None and overlapping:
            name = overlapping[0].alert_id
            if not self._is_older(overlapping[0]):
                self._append(name, EpisodeLinked(episode=candidate.episode))
        if name is None:
            name = alert_id(candidate.key)
            self._append(name, self._opened(candidate))
        name = self._survivor(name)
        self._by_episode[candidate.key] = name
        for other in overlapping:
            if other.alert_id != name and not self._is_older(other):
                self._append(other.alert_id, Merged(into=name))
        return name

    def _overlapping(self, candidate: Candidate) -> list[Alert]:
        """Alerts of the same rule and subject that share evidence and whose own episodes are gone.

        Oldest first. An episode that is still a candidate of its own is not merged, however near.
        """
        entries = {(entry.seq, entry.entry_no) for entry in candidate.entries}
        found = [
            alert
            for alert in self.alerts.values()
            if (alert.rule, alert.ledger, alert.subject) == candidate.key[:3]
            and alert.status != "merged"
            and not any(
                (*candidate.key[:3], episode) in self._present for episode in alert.episodes
            )
            and any((entry.seq, entry.entry_no) in entries for entry in alert.counted)
        ]
        return sorted(found, key=lambda alert: (alert.opened_at, alert.alert_id))

    def _survivor(self, name: str) -> str:
        """The alert in which a merged one goes on."""
        while (into := self.alerts[name].merged_into) is not None:
            name = into
        return name

    def _is_older(self, alert: Alert) -> bool:
        return self.snapshot.as_of.get(alert.ledger, 0) < alert.as_of_seq

    def _opened(self, candidate: Candidate) -> Opened:
        return Opened(
            **self._fired(candidate),
            rule=candidate.rule,
            ledger=candidate.ledger,
            subject=candidate.subject,
            subject_kind=candidate.subject_kind,
            episode=candidate.episode,
            currency=candidate.currency,
            exponent=candidate.exponent,
            evidence=sorted(candidate.entries),
        )

    def _fired(self, candidate: Candidate) -> dict[str, Any]:
        return {
            "rule_version": candidate.rule_version,
            "parameters_hash": candidate.parameters_hash,
            "snapshot_version": self.snapshot.version,
            "as_of_seq": self.snapshot.as_of.get(candidate.ledger, 0),
            "window_start": candidate.window_start,
            "window_end": candidate.window_end,
            "score": candidate.score,
            "amount": str(candidate.amount),
            "roles": counted_roles(candidate),
            "why": candidate.why,
        }

    def _follow(self, name: str, candidate: Candidate) -> None:
        """Take back what no longer counts, then add what is new."""
        alert = self.alerts[name]
        stated = frozenset(candidate.entries)
        removed = alert.counted - stated
        if not self._has_moved_on(alert, candidate):
            # The same rule on the same facts says less: that is a rebuild's doing, not the world's.
            removed = {
                entry for entry in removed if (alert.ledger, entry.seq) in self.snapshot.reversed_by
            }
        if removed:
            self._append(name, self._corrected(alert, removed))
        if added := stated - alert.counted:
            self._append(name, EvidenceAdded(**self._fired(candidate), evidence=sorted(added)))
            if alert.status == "closed":
                self._append(
                    name, Reopened(reason="New evidence came in after this alert was closed.")
                )

    def _has_moved_on(self, alert: Alert, candidate: Candidate) -> bool:
        """Whether the rule or the facts are newer than what the alert has seen."""
        rule = (alert.rule_version, alert.parameters_hash)
        return (
            self.snapshot.as_of.get(alert.ledger, 0) > alert.as_of_seq
            or (candidate.rule_version, candidate.parameters_hash) != rule
        )

    def _take_back_reversed(self, alert: Alert) -> None:
        """A vanished candidate changes its alert only where a reversal explains it."""
        episodes = {
            (alert.rule, alert.ledger, alert.subject, episode) for episode in alert.episodes
        }
        if alert.status == "merged" or episodes & self._present or self._is_older(alert):
            return
        removed = {
            entry
            for entry in alert.counted
            if (alert.ledger, entry.seq) in self.snapshot.reversed_by
        }
        if removed:
            self._append(alert.alert_id, self._corrected(alert, removed))

    def _corrected(self, alert: Alert, removed: Iterable[Evidence]) -> Corrected:
        removed = sorted(removed)
        reversed_by = self.snapshot.reversed_by
        reversals = {
            entry.seq: reversed_by[alert.ledger, entry.seq]
            for entry in removed
            if (alert.ledger, entry.seq) in reversed_by
        }
        left = sum(
            entry.amount for entry in alert.counted.difference(removed) if entry.role in alert.roles
        )
        cause = (
            "Reversed in the ledger: "
            + ", ".join(f"transaction {seq} by {by}" for seq, by in sorted(reversals.items()))
            if reversals
            else "The rule, run on later facts, no longer counts these entries"
        )
        return Corrected(
            snapshot_version=self.snapshot.version,
            as_of_seq=self.snapshot.as_of.get(alert.ledger, 0),
            removed=removed,
            reversals=[Reversal(seq, by) for seq, by in sorted(reversals.items())],
            amount=str(left),
            why=cause + ".",
        )


def _in_order(candidate: Candidate) -> tuple[str, str, str, int]:
    return (*candidate.key[:3], min((entry.seq for entry in candidate.entries), default=0))


def _joined(candidates: list[Candidate]) -> Candidate:
    """Candidates that count in one alert, as one: merged episodes may come apart again."""
    first = candidates[0]
    if len(candidates) == 1:
        return first
    entries = tuple(sorted({entry for candidate in candidates for entry in candidate.entries}))
    roles = counted_roles(first)
    return msgspec.structs.replace(
        first,
        entries=entries,
        amount=sum(entry.amount for entry in entries if entry.role in roles),
        window_start=min(candidate.window_start for candidate in candidates),
        window_end=max(candidate.window_end for candidate in candidates),
        score=max(candidate.score for candidate in candidates),
        why=" ".join(dict.fromkeys(candidate.why for candidate in candidates)),
    )
