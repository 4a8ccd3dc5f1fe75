"""Every code that verification can report is explained."""

from __future__ import annotations

import ast
from pathlib import Path

from ledger_service.engine import verify
from ledger_service.engine.verification import neighbours
from ledger_service.engine.verification.explain import EXPLANATIONS

SOURCES = [
    Path(verify.__file__),
    *Path(verify.__file__).with_name("verification").glob("[!_]*.py"),
]


def literal_codes() -> set[str]:
    """What `add` is called with, and the names of facts that are checked by the dozen."""
    codes = {rule.code for rule in neighbours.RULES}
    places = {"kafka"}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(attr="add" | "_add"), args=given):
                    codes |= {a.value for a in given if isinstance(a, ast.Constant)}
                case ast.Dict(keys=[ast.Constant(value="not_canonical"), *_]):
                    codes |= {key.value for key in node.keys if isinstance(key, ast.Constant)}
                case ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=str(code))):
                    codes.add(code)
    return {code for code in codes - places if str(code).replace("_", "").isalpha()}


def test_every_code_is_explained_and_nothing_else() -> None:
    assert literal_codes() == set(EXPLANATIONS)
