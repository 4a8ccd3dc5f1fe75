"""How old the marts are: the age of the oldest event that a ledger has and the marts don't.

A ledger in which nothing happens is fresh, however long ago its last event was.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import httpx

from ledger_service.contract import topics
from pipelines.checks.declared import outcome
from pipelines.ledger_api import LedgerApi
from pipelines.publication.snapshot import Outcome

FRESH_WITHIN_S = 120


def seconds_behind(api: LedgerApi, as_of: Mapping[str, int]) -> dict[str, int]:
    """By ledger, for how long it has had an event behind the `seq` in `as_of`; 0 without one.

    Asked is about every open ledger: one that isn't in `as_of` has landed nothing at all, as where
    the brokers let this login read no topic of it. Errors: `httpx.HTTPError`.
    """
    now = dt.datetime.now(dt.UTC)
    behind = {}
    for ledger, seq in (dict.fromkeys(api.ledgers(), 0) | dict(as_of)).items():
        if ledger not in topics.STREAMS:
            since = api.recorded_at(ledger, seq + 1)
            behind[ledger] = max(int((now - since).total_seconds()), 0) if since else 0
    return behind


def check_freshness(api: LedgerApi, as_of: Mapping[str, int]) -> Outcome:
    """Every open ledger. Where they can't be asked, the check has failed."""
    try:
        behind = seconds_behind(api, as_of)
    except (httpx.HTTPError, KeyError, ValueError) as failure:
        return outcome("freshness", f"error, not compared: {type(failure).__name__}: {failure}")
    late = [
        f"{ledger}: the marts stand at seq {as_of.get(ledger, 0)}; the ledger has had more for {seconds} s"
        for ledger, seconds in behind.items()
        if seconds > FRESH_WITHIN_S
    ]
    figures = {f"seconds that {ledger} is behind": seconds for ledger, seconds in behind.items()}
    return outcome("freshness", "; ".join(late[:3]), figures)
