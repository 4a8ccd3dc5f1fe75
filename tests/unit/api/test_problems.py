"""Problems: one table, and every refusal of every room is in it."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import ledger_service
from ledger_service.api import problems
from ledger_service.domain.errors import REFUSALS, refusal

RAISERS = {"Problem", "SecurityRefusal", "PartyRefusal", "ReversalRefusal", "MoneyError"} | {
    "IdentifierError"
}
SOURCE = Path(ledger_service.__file__).parent


def raised_codes() -> dict[str, str]:
    """Literal codes given to the refusals that the API answers with, and where."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in RAISERS
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                found[node.args[0].value] = f"{path.name}:{node.lineno}"
    return found


def test_every_code_has_a_status_and_a_sentence():
    codes = raised_codes()
    assert "maker_is_checker" in codes
    missing = {code: where for code, where in codes.items() if code not in problems.STATUS}
    assert not missing
    assert not REFUSALS.keys() - problems.STATUS.keys()


def test_an_unlisted_code_becomes_a_500_that_tells_nothing():
    problem = problems.Problem("surprise", "secret detail", secret="x")
    answer = problems.render(problem, "r")
    assert answer.status_code == 500
    assert b"secret" not in answer.body
    assert b"surprise" not in answer.body


def test_a_domain_refusal_carries_its_facts():
    problem = problems.refused(refusal("floor_passed", account="customer:1:wallet"))
    body = json.loads(problems.render(problem, "r").body)
    assert body["status"] == 422
    assert body["code"] == "floor_passed"
    assert body["account"] == "customer:1:wallet"
    assert body["detail"] == REFUSALS["floor_passed"]
