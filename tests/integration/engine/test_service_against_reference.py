"""The service over HTTP against the reference ledger, by the rules that hold the book against it.

API and writer are processes, on a real PostgreSQL; each example has a ledger of its own. EXAMPLES=n
for more (`make test-history`).
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from ledger_service.contract.events import JournalEvent, decode_journal
from ledger_service.domain.commands import approval_of
from ledger_service.engine.verify import verify
from tests.asking import Ask, body_of, item_of, place_of
from tests.integration.engine.conftest import approve, make_checker
from tests.integration.engine.test_ledger_routes import LEDGER as OPENING
from tests.ledger_api import processes
from tests.ledger_book import command_of
from tests.reference_ledger import AccountState
from tests.servers import LedgerDatabase
from tests.simulation.ledger_rules import FLOORS, Answer, LedgerMachine

_names = (f"ruled_{number}" for number in itertools.count())


class ServedLedger:
    """A new ledger behind the API. `owner`: a connection that writes the second person's word."""

    tick = dt.timedelta(milliseconds=20)

    def __init__(self, http: httpx.Client, owner: psycopg.Connection) -> None:
        self.name = next(_names)
        self._http = http
        self._owner = owner
        self._seen = 0
        assert http.post("/v1/ledgers", json={**OPENING, "ledger": self.name}).status_code == 201
        accounts = [
            {"account": name, "currency": "USD", "floor": None if floor is None else str(floor)}
            for name, floor in FLOORS.items()
        ]
        self._call("POST", "accounts:batch", json={"accounts": accounts})

    def _call(self, method: str, place: str, **options: Any) -> httpx.Response:
        return self._http.request(method, f"/v1/ledgers/{self.name}/{place}", **options)

    def now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC)

    def wait(self, ticks: int) -> None:
        time.sleep(ticks * self.tick.total_seconds() / 10)

    def ask(self, ask: Ask) -> Answer:
        self._approve(ask)
        method, place = place_of(ask)
        answer = self._call(method, place, json=body_of(ask))
        if not answer.is_success:
            return Answer(answer.json()["code"])
        if answer.json().get("dry_run"):
            return Answer(None, is_dry=True)
        if ask.do == "status":
            return Answer(None)
        is_replay = "Idempotent-Replayed" in answer.headers
        assert (answer.status_code == 200) == is_replay
        return Answer(None, answer.content, is_replay)

    def ask_linked(self, asks: Sequence[Ask], *, dry: bool) -> list[Answer]:
        body = {"commands": [item_of(ask) for ask in asks], "linked": True, "dry_run": dry}
        answer = self._call("POST", "commands:batch", json=body)
        return [
            Answer(None, self._events(one["seq"] - 1, 1)[0], one["status"] == "replayed")
            if one["status"] in ("committed", "replayed")
            else Answer(one.get("code"), is_dry=one["status"] == "possible")
            for one in answer.json()["results"]
        ]

    def _approve(self, ask: Ask) -> None:
        """What the command names must have been approved by another person, to the letter."""
        found = ask.approval and approval_of(self.name, command_of(ask, self.name))
        if found:
            approve(self._owner, *found)

    def _events(self, after_seq: int, limit: int) -> list[bytes]:
        found = self._call("GET", "events", params={"after_seq": after_seq, "limit": limit})
        return found.content.splitlines()

    def news(self) -> list[JournalEvent]:
        events = [decode_journal(raw) for raw in self._events(self._seen, 1000)]
        self._seen = events[-1].seq if events else self._seen
        return events

    def accounts(self) -> dict[str, AccountState]:
        return {
            row["account"]: AccountState(
                int(row["debits"]) - int(row["credits"]),
                int(row["pending_debits"]),
                int(row["pending_credits"]),
                row["status"],
            )
            for row in self._call("GET", "accounts").json()["accounts"]
        }


class ServiceMachine(LedgerMachine):
    """The rules alone: the server's clock ends holds by itself."""


EXAMPLES = int(os.environ.get("EXAMPLES", "8"))
LEDGERS = 40
"""Of one writer, which has three connections for each: PostgreSQL takes two hundred here."""
QUICK = settings(
    max_examples=min(EXAMPLES, LEDGERS),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("round_", range(-(-EXAMPLES // LEDGERS)))
def test_the_service_says_what_the_reference_says(
    round_: int, ledger_database: LedgerDatabase, tmp_path: Path
) -> None:
    # the first one the same each time, the others new ones
    plan = settings(QUICK, derandomize=round_ == 0)
    with (
        processes(ledger_database, tmp_path, log_level="warning") as services,
        services.client() as http,
        psycopg.connect(services.owner_url, autocommit=True) as owner,
    ):
        make_checker(owner)
        run_state_machine_as_test(lambda: ServiceMachine(ServedLedger(http, owner)), settings=plan)
        found = verify(services.owner_url, None, full=True).findings
    assert [one for one in found if one.ledger] == []
