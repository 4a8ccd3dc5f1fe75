"""The tests' own time budget is enforced."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_a_run_past_its_budget_fails(tmp_path):
    (tmp_path / "test_one.py").write_text("def test_one():\n    pass\n")
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    for budget, code, verdict in ((60, 0, "within the budget"), (-1, 1, "FAILED: past the budget")):
        run = (
            f"import sys, pytest; sys.path.insert(0, {str(ROOT)!r}); "
            "import tests.time_budget as plugin; "
            f"plugin.BUDGET_SECONDS = {budget}; "
            f"sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', {str(tmp_path)!r}], [plugin]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", run],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=env,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert verdict in done.stdout
