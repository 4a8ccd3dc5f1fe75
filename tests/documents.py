"""The documents of the project, and the programs that stand in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    """Every block of shell or Python, in reading order: its language and its text."""
    return [
        (found[1], found[2]) for file in DOCUMENTS for found in _BLOCK.finditer(file.read_text())
    ]
