"""Compiles the lane (the `.pyx` of engine and api) when the package is installed, if a C compiler is there.

Cython writes C and the compiler makes libraries beside the sources, in an editable installation too.
Without a compiler, or without Python's headers, the installation goes on and says so: the book then
decides everything, at half the speed.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SOURCES = (
    "ledger_service/engine/plain.pyx",
    "ledger_service/engine/lane.pyx",
    "ledger_service/engine/rows.pyx",
    "ledger_service/api/plain_bodies.pyx",
)


class LaneBuildHook(BuildHookInterface[Any]):
    """Hatchling calls this for each wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Add the libraries to the wheel, which is then one for this machine's kind."""
        if self.target_name != "wheel":
            return
        try:
            libraries = [_compile(Path(self.root, name)) for name in _SOURCES]
        except (OSError, subprocess.CalledProcessError) as error:
            self.app.display_warning(
                f"The ledger's fast lane was not compiled ({error}); postings are decided at half the "
                "speed. For the other half: apt-get install gcc libc6-dev python3-dev, then "
                "`make clean install`."
            )
            return
        build_data["artifacts"] += [str(path.relative_to(self.root)) for path in libraries]
        build_data.update(pure_python=False, infer_tag=True)


def _compile(source: Path) -> Path:
    """The library. Errors: OSError where there is no compiler, CalledProcessError where it fails."""
    library = source.with_name(source.stem + sysconfig.get_config_var("EXT_SUFFIX"))
    link = shlex.split(sysconfig.get_config_var("LDSHARED"))
    headers = sysconfig.get_path("include")
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, source.stem + ".c")
        _run(sys.executable, "-m", "cython", "-3", str(source), "-o", str(written))
        options = ("-O2", "-fPIC", "-DNDEBUG", "-w", f"-I{headers}")
        made = Path(folder, library.name)
        _run(*link, *options, str(written), "-o", str(made))
        library.unlink(missing_ok=True)  # a process that has the old one loaded keeps it
        library.write_bytes(made.read_bytes())
        library.chmod(0o755)
    return library


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
