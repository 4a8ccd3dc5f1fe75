"""True-ups by a writer that knows only what it reads back: over HTTP, and on random histories."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import asyncpg
import hypothesis.strategies as st
import pytest
from hypothesis import given

from ledger_service.domain import memory
from ledger_service.domain.commands import Command
from ledger_service.domain.interest import Accruals
from ledger_service.engine import accruals
from ledger_service.engine.verify import verify, verify_new
from tests import dated_histories
from tests.integration.engine.test_as_of import QUICK, Run, run
from tests.integration.engine.test_holds_and_periods import L, code, days_ago
from tests.integration.engine.test_posting_rules import (
    EXPENSE,
    FBO,
    PAYABLE,
    A,
    B,
    accrue,
    begin,
    fund,
    post,
)
from tests.integration.engine.test_verified_interest import DAY, SAVERS, STEPS, decided, stand_at
from tests.ledger_api import Services, processes
from tests.ledger_book import accruing, carry_out, posting
from tests.servers import LedgerDatabase

__all__ = ["run"]
_names = (f"true_up_{number}" for number in itertools.count())


@pytest.fixture
def services(ledger_database: LedgerDatabase, tmp_path) -> Iterator[Services]:
    with processes(ledger_database, tmp_path) as running:
        yield running


def amounts(event: dict[str, Any]) -> list[tuple[str, int]]:
    return [
        (entry["account"], int(entry["amount"]) * (1 if entry["side"] == "debit" else -1))
        for entry in event["entries"]
    ]


def stated(event: dict[str, Any]) -> tuple[str, str]:
    return event["applied"]["interest"], event["applied"]["true_up"]


def withdrawal(account: str, amount: int, ago: int, key: str) -> dict[str, Any]:
    lines = [(account, "debit"), (FBO, "credit")]
    entries = [{"account": name, "side": side, "amount": str(amount), "currency": "USD"}
               for name, side in lines]  # fmt: skip
    return {"idempotency_key": key, "kind": "transfer", "entries": entries,
            "effective_at": f"{days_ago(ago)}T16:00:00Z"}  # fmt: skip


def test_interest_follows_what_is_backdated_and_verification_derives_it(
    services: Services, ledger_database: LedgerDatabase
) -> None:
    def is_sound() -> bool:
        """By what is new alone, and by the whole journal."""
        new = verify_new(ledger_database.url("verifier")).findings
        everything = [one for one in verify(ledger_database.owner_url).findings if one.ledger]
        return new == everything == []

    with services.client() as http:
        begin(services, http)
        fund(http, A, 100_000, 20)
        assert stated(accrue(http, "i1", 11).json()) == ("100/1", "0/1")
        assert is_sound()
        # recorded on the day of the accrual, before it and after it
        fund(http, A, 50_000, 15)
        services.restart_writer()
        dry = accrue(http, "dry", 10, dry_run=True).json()
        assert (dry["dry_run"], stated(dry), amounts(dry)[0]) == (
            True, ("15/1", "25/1"), (EXPENSE, 40),
        )  # fmt: skip
        made_up = accrue(http, "i2", 10).json()
        assert (stated(made_up), made_up["effective_date"]) == (("15/1", "25/1"), days_ago(10))
        assert stated(accrue(http, "i3", 9).json()) == ("15/1", "0/1"), "it is made up for once"
        post(http, "rules/save:capitalize", {"idempotency_key": "c1", "account": A})
        assert is_sound()
        # In one batch: a withdrawal for days that are capitalized, and what it takes back.
        commands = [
            {"do": "post", **withdrawal(A, 140_000, 18, "w")},
            {"do": "accrue", "rule": "save", "idempotency_key": "i4", "account": A,
             "through": days_ago(8)},
            {"do": "accrue", "rule": "save", "idempotency_key": "i5", "account": B,
             "through": days_ago(8)},
        ]  # fmt: skip
        found = post(http, "commands:batch", {"commands": commands}, 200)["results"]
        assert [one.get("code", one["status"]) for one in found] == [
            "committed", "committed", "nothing_due",
        ]  # fmt: skip
        taken = http.get(f"{L}/transactions/{found[1]['seq']}").json()
        assert (stated(taken), amounts(taken)) == (
            ("1/1", "-128/1"), [(EXPENSE, -127), (PAYABLE, 127)],
        )  # fmt: skip
        [shown] = http.get(f"{L}/accounts/{A}/accruals").json()["accruals"]
        assert (shown["accrued"], shown["true_up"], shown["through"]) == (
            "-127", "-128/1", days_ago(8),
        )  # fmt: skip
        assert is_sound()
        back = post(http, "rules/save:capitalize", {"idempotency_key": "c2", "account": A})
        assert amounts(back) == [(A, 127), (PAYABLE, -127)]
        assert http.get(f"{L}/accounts/{PAYABLE}").json()["posted"] == "0"
        [shown] = http.get(f"{L}/accounts/{A}/accruals").json()["accruals"]
        assert (shown["accrued"], shown["true_up"]) == ("0", None)
        # What is closed takes nothing: neither the entry nor what it changes.
        fund(http, A, 1_000_000, 8)
        post(http, "periods:close", {"through": days_ago(7)})
        late = accrue(http, "i6", 7).json()
        assert (late["effective_date"], late["value_date"]) == (days_ago(0), days_ago(7))
        assert late["applied"]["true_up"] == "100/1"
        assert code(accrue(http, "i7", 7)) == (409, "already_accrued")
        assert is_sound()


@QUICK
@given(data=st.data())
def test_what_is_read_back_gives_what_the_book_would_have_kept(
    data: st.DataObject, ledger_database: LedgerDatabase, run: Run
) -> None:
    """However far the history is, and where other commands of the batch backdate."""
    ledger = next(_names)
    book, events, now = decided(ledger, data.draw(st.lists(STEPS, min_size=20, max_size=40)))
    dated_histories.store(ledger_database.owner_url, events)
    stand_at(
        ledger_database.owner_url,
        ledger,
        data.draw(st.just(len(events)) | st.integers(1, len(events))),
    )
    now, yesterday = now + DAY, now.date()  # so that there is a day to accrue
    commands: list[Command] = []
    for number, saver in enumerate(SAVERS):
        for ago in data.draw(st.lists(st.integers(0, 20), max_size=2)):
            moves = (FBO, 70_000), (saver, -70_000)
            at = f"{now.date() - ago * DAY}T13:00:00Z"
            commands.append(posting(f"{number} {ago}", *moves, effective_at=at))
        commands.append(accruing(f"last {number}", "save", saver, str(yesterday)))
    commands = data.draw(st.permutations(commands))
    kept = book.accruals

    async def read_back(connection: asyncpg.Connection) -> Accruals:
        lacks = memory.lacks_of(book, commands)
        lacks.earliest = memory.earliest_day(commands)
        return await accruals.load(connection, book, lacks)

    def carried_out(rests_on: Accruals) -> list[Any]:
        book.accruals = rests_on
        book.begin()
        found = [carry_out(book, command, now) for command in commands]
        book.take_back()
        return found

    assert carried_out(run(read_back)) == carried_out(kept)
