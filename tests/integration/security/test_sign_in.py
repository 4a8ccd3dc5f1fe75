"""Sign-in, sessions, keys: who gets in, and for how long."""

from __future__ import annotations

import asyncio

import pytest

from ledger_service.security import identities
from tests.ledger_api import PASSWORD, Api, serving


@pytest.fixture
async def api(ledger_database, monkeypatch):
    async with serving(ledger_database, monkeypatch) as running:
        yield running


async def test_a_session_opens_serves_and_ends(api: Api):
    session = await api.sign_in("analyst")
    me = await api.http.get("/v1/me", headers=session)
    assert me.status_code == 200
    assert me.json()["actor"] == api.users["analyst"]
    assert me.json()["kind"] == "session"
    assert (await api.http.delete("/v1/sessions/current", headers=session)).status_code == 204
    assert (await api.http.get("/v1/me", headers=session)).status_code == 401
    stored = await api.owner.fetch("select * from security.session")
    assert len(stored) == 1
    assert session["Authorization"].rpartition("_")[2] not in str(stored)
