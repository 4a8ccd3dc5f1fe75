"""The edge of the API: problems, request ids, limits, what is open, what is logged."""

from __future__ import annotations

import json
import re
import uuid

import pytest
import structlog

from ledger_service.api.app import BODY_MAX_BYTES
from ledger_service.contract import logs
from tests.ledger_api import Api


async def test_every_refusal_is_a_problem_with_the_request_id(api: Api):
    mine = str(uuid.uuid4())
    for answer, status, code in (
        (await api.call("operator", "GET", "/v1/nothing"), 404, "not_found"),
        (await api.call("operator", "PUT", "/v1/me"), 405, "method_not_allowed"),
        (await api.call("", "GET", "/v1/me"), 401, "unauthenticated"),
        (await api.call("analyst", "GET", "/v1/audit-log"), 403, "forbidden"),
        (await api.call("operator", "POST", "/v1/parties", content=b"{"), 422, "invalid_request"),
        (await api.call("auditor", "GET", "/v1/approvals/apr_x"), 404, "unknown_approval"),
    ):
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        body = answer.json()
        assert body.keys() >= {"type", "title", "status", "code", "detail", "request_id"}
        assert (body["status"], body["code"]) == (status, code)
        assert body["detail"]
        assert body["request_id"] == answer.headers["x-request-id"]
    answer = await api.call("operator", "GET", "/v1/nothing", headers={"X-Request-Id": mine})
    assert answer.json()["request_id"] == mine
    for invented in ("078-05-1120", f"{mine}x", "", "{" + mine + "}"):
        answer = await api.call(
            "operator", "GET", "/v1/nothing", headers={"X-Request-Id": invented}
        )
        assert re.fullmatch(
            r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", answer.json()["request_id"]
        )
        assert answer.json()["request_id"] != mine


async def test_a_validation_error_names_the_place_and_not_the_value(api: Api):
    body = {"kind": "person", "name": 5, "078-05-1120": "904417723651", "country": "904417723651"}
    answer = await api.call("operator", "POST", "/v1/parties", json=body)
    assert answer.status_code == 422
    places = {error["where"] for error in answer.json()["errors"]}
    assert places >= {"body.name", "body.country", "body.risk_tier", "body.?"}
    assert "904417723651" not in answer.text
    assert "078-05-1120" not in answer.text


async def test_a_body_beyond_the_limit_is_refused(api: Api):
    async def without_length():
        for _ in range(BODY_MAX_BYTES // 65536 + 2):
            yield b" " * 65536

    for content in (b" " * (BODY_MAX_BYTES + 1), without_length()):
        answer = await api.call(
            "operator",
            "POST",
            "/v1/parties",
            content=content,
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 413
        assert answer.json()["code"] == "body_too_large"


async def test_only_health_is_open(api: Api):
    for path in ("/livez", "/readyz"):
        assert (await api.call("", "GET", path)).status_code == 200
    for path in ("/docs", "/openapi.json", "/v1/me", "/v1/ledgers"):
        assert (await api.call("", "GET", path)).status_code == 401
        assert (await api.call("analyst", "GET", path)).status_code == 200
    described = (await api.call("analyst", "GET", "/openapi.json")).json()
    assert described["paths"]["/v1/audit-log"]["get"]["x-permission"] == "audit.read"
    assert "<script" not in (await api.call("analyst", "GET", "/docs")).text


async def test_what_fails_inside_stays_inside(api: Api, monkeypatch):
    async def fail(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("password of the database, and 078-05-1120")

    monkeypatch.setattr("ledger_service.security.audit.read_log", fail)
    with structlog.testing.capture_logs() as lines:
        answer = await api.call("auditor", "GET", "/v1/audit-log?actor=&after=1")
        answer = await api.call("auditor", "GET", "/v1/audit-log?after=1")
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal_error"
    said = json.dumps(lines)
    assert "password" not in answer.text + said
    assert "after=" not in said
    failure = next(line for line in lines if line["event"] == "api.request_failed")
    assert failure["error"] == "builtins.RuntimeError"
    assert any("audit.py" in frame for frame in failure["at"])


async def test_a_log_line_holds_the_template_and_the_actor(api: Api):
    with structlog.testing.capture_logs() as lines:
        await api.call("auditor", "GET", "/v1/approvals/078-05-1120?status=904417723651")
        unmatched = await api.call("", "GET", "/078-05-1120")
        assert logs.request_id.get() == unmatched.headers["x-request-id"]  # each line names it
    answered = [line for line in lines if line["event"] == "api.request_answered"]
    assert [line["route"] for line in answered] == ["/v1/approvals/{approval}", "unmatched"]
    assert answered[0]["actor"].startswith("key_")
    assert answered[1]["actor"] is None
    assert "078-05-1120" not in json.dumps(lines)


async def test_a_lost_database_is_said_as_503(api: Api, postgres):
    await api.owner.execute("select 1")
    api.pool.terminate()
    answer = await api.http.get(
        "/v1/me", headers={"Authorization": f"Bearer {api.keys['analyst']}"}
    )
    assert answer.status_code == 503
    assert answer.json()["code"] == "database_unavailable"
    assert (await api.http.get("/readyz")).status_code == 503
    assert (await api.http.get("/livez")).status_code == 200


@pytest.mark.parametrize("path", ["/v1/approvals/%00", "/v1/approvals?after=%00", "/%00"])
async def test_a_nul_is_refused_at_the_edge(api: Api, path: str):
    assert (await api.call("auditor", "GET", path)).status_code == 422
