"""The house rules that a program can check: sizes, names, paths, and what a file may not hold."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("ledger_service", "pipelines", "monitoring")
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 400


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def source_files() -> list[Path]:
    return [path for path in tracked("*.py") if path.relative_to(ROOT).parts[0] in ROOMS]


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def test_top_level_holds_only_the_rooms() -> None:
    allowed = {
        *ROOMS, "dbt_project", "tests", "docs", ".ci", "pyproject.toml", "workspace.yaml", "README.md",
        "Makefile", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", ".gitignore", "requirements.lock",
        "requirements-installer.lock", "requirements-distributed.lock", "mkdocs.yml",
    }  # fmt: skip
    assert {path.relative_to(ROOT).parts[0] for path in tracked()} <= allowed


def test_files_and_functions_stay_readable() -> None:
    too_long = []
    for path in source_files():
        text = path.read_text()
        lines = text.count("\n")
        if lines > FILE_LINES_MAX:
            too_long.append(f"{path.relative_to(ROOT)}: {lines} lines")
        too_long += [
            f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines"
            for node in functions(ast.parse(text))
            if node.end_lineno and node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
        ]
    assert not too_long, "\n".join(too_long)


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in source_files()
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent, "\n".join(silent)


def test_no_drawer_without_a_name() -> None:
    vague = re.compile(r"(^|_)(utils?|helpers?|misc|common|base|manager)(_|\.py$|$)")
    assert not [
        str(p)
        for p in source_files()
        if any(vague.search(part) for part in p.relative_to(ROOT).parts)
    ]


def test_nothing_knows_this_machine() -> None:
    """No path of one machine, no download address of a registry: what is written runs anywhere."""
    machine = re.compile(
        r"(?<![\w.])/(work|root|farm)/|/tmp/[A-Za-z]|files\.pythonhosted|repo1?\.maven\."
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in tracked()
        if path.suffix not in {".png", ".pdf", ".parquet"} and path != Path(__file__)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if machine.search(line)
    ]
    assert not found, "\n".join(found)


def test_lock_files_hold_names_versions_and_hashes_only() -> None:
    for name in (
        "requirements.lock",
        "requirements-installer.lock",
        "requirements-distributed.lock",
    ):
        for line in (ROOT / name).read_text().splitlines():
            assert re.fullmatch(
                r"[\w.\[\],-]+==[\w.!+-]+( ; .+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line
            ), line


@pytest.mark.parametrize("word", ["datetime.now()", "utcnow(", "time.time()"])
def test_domain_has_no_clock(word: str) -> None:
    assert not [str(p) for p in source_files() if "domain" in p.parts and word in p.read_text()]


def test_settings_are_read_in_one_place() -> None:
    """Only the settings table reads the environment, and the stack, which makes it for others.

    Writing it is how libraries are told (dbt's profile, Great Expectations).
    """
    reading = re.compile(r"getenv|os\.environ(?!\.update\(|\[[^\]]+\] = )")
    readers = {
        str(path.relative_to(ROOT)) for path in source_files() if reading.search(path.read_text())
    }
    stack = {name for name in readers if name.startswith("ledger_service/stack/")}
    assert readers - stack <= {"ledger_service/contract/environment.py"}, readers


def test_every_setting_is_documented() -> None:
    from ledger_service.contract.environment import SETTINGS

    operations = (ROOT / "docs" / "operations.md").read_text()
    assert not [name for name in SETTINGS if f"`{name}`" not in operations]
