"""The version of the code that made a table, a snapshot or a report."""

from __future__ import annotations

import functools
import hashlib
from importlib import metadata
from pathlib import Path

_PROJECT = Path(__file__).parents[2] / "dbt_project"


@functools.cache
def code_version() -> str:
    """The distribution's version and a hash of the dbt project, which makes the marts."""
    digest = hashlib.sha256()
    for folder in ("models", "macros", "seeds"):
        for path in sorted((_PROJECT / folder).rglob("*")):
            if path.is_file():
                digest.update(path.relative_to(_PROJECT).as_posix().encode() + path.read_bytes())
    return f"{metadata.version('tallystick')}+{digest.hexdigest()[:12]}"
