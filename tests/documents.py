"""The programs that stand in README and docs/."""

from __future__ import annotations

import re
from pathlib import Path

_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(root: Path) -> list[tuple[str, str]]:
    """Every block of shell or Python, in reading order: its language and its text."""
    files = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    return [(found[1], found[2]) for file in files for found in _BLOCK.finditer(file.read_text())]
