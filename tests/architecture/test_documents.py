"""What the documents name is there: commands, targets, files. The commands themselves run in
tests/end_to_end/test_demo.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from ledger_service.stack.cli import tally
from tests.documents import DOCUMENTS, ROOT


def inline_code(document: Path) -> list[str]:
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", document.read_text())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for code in inline_code(document):
        first, *words = code.split()
        if first == "make":
            assert words[0] in targets, code
        if first == "tally":
            command: click.Command | None = tally
            for word in words:
                if not isinstance(command, click.Group) or not re.fullmatch(r"[a-z-]+", word):
                    break
                command = command.get_command(click.Context(command), word)
                assert command is not None, code


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target
