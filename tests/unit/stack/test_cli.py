"""`tally` itself: quick, and with errors that say what to do."""

from __future__ import annotations

import dataclasses
import os
import resource
import subprocess
import sys

import pytest

from ledger_service.stack import cli
from ledger_service.stack.kafka import server as kafka


@dataclasses.dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def tally(monkeypatch, capsys):
    """`tally` in this process, with settings."""

    def call(*arguments: str, **settings: str) -> Done:
        with monkeypatch.context() as patch:
            # what other tests of this process told libraries by the environment is not meant here
            for name in [name for name in os.environ if name.startswith("TALLYSTICK_")]:
                patch.delenv(name)
            for name, value in settings.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as stop:
                cli.main(list(arguments))
        said = capsys.readouterr()
        return Done(int(stop.value.code or 0), said.out, said.err)

    return call


def test_help_is_quick_and_lists_every_room():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "ledger_service.stack.cli", "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0
    for name in ("up", "load", "verify", "snapshot", "monitor"):
        assert f"\n  {name} " in done.stdout
    # processor time: a busy machine must not fail this
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_help_imports_no_room():
    code = (
        "import sys; from ledger_service.stack.cli import tally; "
        "tally.main(['--help'], standalone_mode=False); "
        "heavy = {'asyncpg', 'alembic', 'dagster', 'psycopg', 'httpx', 'duckdb'}; "
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("HEAVY []\n"), done.stdout + done.stderr


def test_a_missing_setting_is_one_line_that_names_it(tally, tmp_path):
    done = tally("migrate", TALLYSTICK_HOME=str(tmp_path / "none"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Set TALLYSTICK_OWNER_DATABASE_URL" in done.stderr
    assert not (tmp_path / "none").exists(), "asking makes no home"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "teapot"], "no 'teapot' to run"),
        (["up", "teapot"], "There is no 'teapot'"),
        (["logs", "teapot"], "no log of 'teapot'"),
        (["config", "check", "teapot"], "There is no 'teapot'"),
        (["teapot"], "No such command"),
    ],
)
def test_an_unknown_name_is_a_named_error(tally, tmp_path, arguments, says):
    done = tally(*arguments, TALLYSTICK_HOME=str(tmp_path / "home"))
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_config_check_finds_a_slip_of_the_pen_and_shows_no_secret(tally, tmp_path):
    home = str(tmp_path)
    done = tally("config", "check", TALLYSTICK_HOME=home, TALLYSTICK_BANK_SECRET="s3cr3t")
    assert done.returncode == 0
    assert "s3cr3t" not in done.stdout
    done = tally("config", "check", TALLYSTICK_HOME=home, TALLYSTICK_KAFKA_BOOTSTRAPS="x:1")
    assert done.returncode == 2
    assert "TALLYSTICK_KAFKA_BOOTSTRAPS is no setting" in done.stderr


def test_config_check_of_a_service_names_what_it_lacks(tally, tmp_path):
    done = tally("config", "check", "relay", TALLYSTICK_KAFKA_BOOTSTRAP="127.0.0.1:9092")
    assert done.returncode == 2
    assert "Set TALLYSTICK_DATABASE_URL" in done.stderr
    assert "KAFKA_BOOTSTRAP:" not in done.stderr


def test_doctor_names_what_is_missing_and_how_to_install_it(tally, tmp_path):
    kafka.java.cache_clear()
    done = tally("doctor", TALLYSTICK_HOME=str(tmp_path), PATH=str(tmp_path))
    assert done.returncode == 1
    for remedy in ("default-jre-headless", "apt-get install maven", "apt-get install chromium"):
        assert remedy in done.stdout
