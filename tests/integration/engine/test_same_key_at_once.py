"""One idempotency key, sent at once through two API nodes: one effect, and one answer for all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from tests.integration.engine.test_ledger_routes import LEDGER, A, B, L, body
from tests.ledger_api import Services, processes
from tests.servers import LedgerDatabase


@pytest.fixture
def services(ledger_database: LedgerDatabase, tmp_path) -> Iterator[Services]:
    with processes(ledger_database, tmp_path) as running, running.client() as http:
        http.post("/v1/ledgers", json=LEDGER)
        accounts = [{"account": account, "currency": "USD"} for account in (A, B)]
        http.post(f"{L}/accounts:batch", json={"accounts": accounts})
        yield running


async def at_once(services: Services, other: str, bodies: list[Any]) -> list[httpx.Response]:
    """All requests in flight together, by turns through two nodes."""
    headers = {"Authorization": f"Bearer {services.everything}"}
    limits = httpx.Limits(max_connections=len(bodies))
    async with (
        httpx.AsyncClient(base_url=services.url, headers=headers, limits=limits) as one,
        httpx.AsyncClient(base_url=other, headers=headers, limits=limits) as two,
    ):
        sent = [
            (one, two)[number % 2].post(f"{L}/transactions", json=content, timeout=30)
            for number, content in enumerate(bodies)
        ]
        return await asyncio.gather(*sent)


def test_a_key_sent_at_once_through_two_nodes_has_one_effect(services: Services) -> None:
    other = services.start_api()
    answers = asyncio.run(at_once(services, other, [body("k")] * 100))
    assert len({answer.content for answer in answers}) == 1
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(201), statuses.count(200)) == (1, 99)
    replayed = [answer for answer in answers if "Idempotent-Replayed" in answer.headers]
    assert len(replayed) == 99

    # the same key with two amounts: whoever is first is the one, whoever differs is told from whom
    amounts = ["5", "6"] * 50
    bodies = [body("other", amount) for amount in amounts]
    answers = asyncio.run(at_once(services, other, bodies))
    won = {a.json()["entries"][0]["amount"] for a in answers if a.is_success}
    assert len(won) == 1
    assert len({a.content for a in answers if a.is_success}) == 1
    seq = next(a.json()["seq"] for a in answers if a.is_success)
    for amount, answer in zip(amounts, answers, strict=True):
        assert answer.is_success == (amount in won)
        if not answer.is_success:
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (422, "idempotency_conflict")
            assert (problem["seq"], problem["difference"]) == (seq, ["entries"])
    with psycopg.connect(services.owner_url) as connection:
        count = "select count(*) from ledger.journal where event_type = 'transaction.posted'"
        assert connection.execute(count).fetchone() == (2,)
