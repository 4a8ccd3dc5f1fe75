"""Sign-in, sessions, keys: who gets in, and for how long."""

from __future__ import annotations

import asyncio

from ledger_service.api import who
from ledger_service.security import identities
from tests.ledger_api import PASSWORD, Api


async def sign_in(api: Api, user_name: str, password: str):
    return await api.http.post("/v1/sessions", json={"username": user_name, "password": password})


async def test_a_session_opens_serves_and_ends(api: Api):
    session = await api.sign_in("analyst")
    me = await api.http.get("/v1/me", headers=session)
    assert me.json()["actor"] == api.users["analyst"]
    assert me.json()["kind"] == "session"
    assert me.json()["roles"] == ["analyst"]
    stored = await api.owner.fetch("select * from security.session")
    assert session["Authorization"].rpartition("_")[2] not in str(stored)
    assert (await api.http.delete("/v1/sessions/current", headers=session)).status_code == 204
    assert (await api.http.get("/v1/me", headers=session)).status_code == 401

    session = await api.sign_in("analyst")
    await api.owner.execute("update security.session set expires_at = now()")
    assert (await api.http.get("/v1/me", headers=session)).status_code == 401


async def test_wrong_tokens_are_all_refused_alike(api: Api):
    token = api.keys["operator"]
    answers = [
        await api.http.get("/v1/me", headers={"Authorization": value})
        for value in (
            "",
            "Bearer",
            f"Basic {token}",
            f"Bearer {token[:-1]}{'0' if token[-1] != '0' else '1'}",
            f"Bearer {token.replace('tsk', 'tss')}",
            "Bearer tsk_" + "a" * 26 + "_" + "0" * 64,
        )
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.json()["code"] for answer in answers} == {"unauthenticated"}
    assert answers[0].headers["www-authenticate"] == "Bearer"


async def test_a_revoked_user_takes_sessions_and_held_keys_along(api: Api, monkeypatch):
    monkeypatch.setattr(who, "KEY_CACHE_SECONDS", 0.0)
    session = await api.sign_in("operator")
    key = await identities.create_key(
        api.owner, "held", ["integrator"], holder=api.users["operator"]
    )
    held = {"Authorization": f"Bearer {key.text}"}
    assert (await api.http.get("/v1/me", headers=held)).status_code == 200
    ended = await identities.revoke(api.owner, "operator")
    assert api.users["operator"] in ended
    assert (await api.http.get("/v1/me", headers=held)).status_code == 401
    assert (await api.http.get("/v1/me", headers=session)).status_code == 401
    assert (await sign_in(api, "operator", PASSWORD)).status_code == 401


async def test_a_key_whose_time_is_over_is_looked_up_once_for_all_who_show_it(
    api: Api, monkeypatch
):
    looked_up = []
    authenticate = identities.authenticate

    async def counting(connection, bearer):
        looked_up.append(bearer)
        return await authenticate(connection, bearer)

    headers = {"Authorization": f"Bearer {api.keys['operator']}"}
    assert (await api.http.get("/v1/me", headers=headers)).status_code == 200
    monkeypatch.setattr(who.identities, "authenticate", counting)
    monkeypatch.setattr(who, "KEY_CACHE_SECONDS", 0.0)
    await api.http.get("/v1/me", headers=headers)
    monkeypatch.setattr(who, "KEY_CACHE_SECONDS", 0.2)
    await asyncio.sleep(0.2)
    answers = await asyncio.gather(*(api.http.get("/v1/me", headers=headers) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(looked_up) == 2


async def test_guessing_locks_a_user_name_known_or_not(api: Api):
    await api.sign_in("analyst")
    for name in ("analyst", "nobody"):
        answers = await asyncio.gather(*(sign_in(api, name, f"guess {n}") for n in range(8)))
        codes = sorted(answer.json()["code"] for answer in answers)
        assert codes == ["bad_credentials"] * 5 + ["sign_in_locked"] * 3, name
        locked = await sign_in(api, name, PASSWORD)
        assert locked.status_code == 429
        assert int(locked.headers["retry-after"]) >= 1
    await api.owner.execute("update security.sign_in_attempts set locked_until = now()")
    assert (await sign_in(api, "analyst", PASSWORD)).status_code == 201
    assert (await sign_in(api, "analyst", "one wrong guess")).status_code == 401
    names = await api.owner.fetchval(
        "select count(*) from security.sign_in_attempts where user_name_digest = 'analyst'::bytea"
    )
    assert names == 0
    refused = await api.owner.fetchval(
        "select count(*) from security.audit_log where content::json ->> 'outcome' = 'refused'"
    )
    assert refused == 6


async def test_demo_identities_are_refused_outside_the_demo(api: Api, monkeypatch):
    key = await identities.create_key(api.owner, "demo", ["operator"], demo=True)
    await identities.create_user(api.owner, "demo", PASSWORD, ["operator"], demo=True)
    bearer = {"Authorization": f"Bearer {key.text}"}
    refused = [await api.http.get("/v1/me", headers=bearer), await sign_in(api, "demo", PASSWORD)]
    assert {answer.json()["code"] for answer in refused} == {"demo_identity_refused"}
    monkeypatch.setenv("TALLYSTICK_ENV", "demo")
    assert (await api.http.get("/v1/me", headers=bearer)).status_code == 200
    assert (await sign_in(api, "demo", PASSWORD)).status_code == 201


async def test_a_refusal_to_a_known_caller_is_on_record(api: Api):
    answer = await api.call("analyst", "GET", "/v1/audit-log")
    assert answer.status_code == 403
    assert answer.json()["permission"] == "audit.read"
    log = (await api.call("auditor", "GET", "/v1/audit-log")).json()["rows"]
    row = next(row for row in log if row["action"] == "request.made")
    assert row["outcome"] == "refused"
    assert row["subject"] == "GET /v1/audit-log"
    assert row["details"]["request_id"] == answer.json()["request_id"]
    assert row["actor"].startswith("key_")
