"""Supervisor watches the parts: it starts them, restarts what dies, keeps their logs, stops them.

Each part runs as `tally run NAME --local` in a process group of its own. What it is (pid and time
of birth) is on record in the home, so that nothing is left behind even where the supervisor itself
was killed; a process is known by both, never by its name.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from ledger_service.contract.snapshots import write_atomically
from ledger_service.stack.errors import StackError
from ledger_service.stack.home import Home
from ledger_service.stack.services import Part
from ledger_service.stack.settings import MARK

_SOCKET_PATH_MAX = 100
"""Linux cuts a Unix socket's path at 108 bytes; supervisor appends to it while it binds."""
_USER = "tally"
_AT_ONCE, _WHEN_DONE = False, True
"""When supervisor answers a call that starts or stops a part."""


def log_file(home: Home, name: str) -> Path:
    """Where a part's output goes."""
    return home / "logs" / f"{name}.log"


def last_lines(home: Home, name: str, count: int = 15) -> str:
    """The end of a part's log."""
    try:
        text = log_file(home, name).read_bytes()[-32_768:].decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-count:])


class Supervisor:
    """The supervisor of one home."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._folder = home / "supervisor"

    # talking to it

    def _address(self) -> str:
        socket = str(self._folder / "supervisor.sock")
        if len(socket.encode()) <= _SOCKET_PATH_MAX:
            return f"unix://{socket}"
        return f"http://{self._home.address('supervisor')}"

    def call(self, method: str, *arguments: object) -> Any:
        """One call of supervisor's XML-RPC. Errors: OSError where it does not run, `Fault`."""
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(_USER, self._home.secret("supervisor"), self._address())
        with contextlib.closing(transport):
            proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
            return getattr(proxy.supervisor, method)(*arguments)

    def is_running(self) -> bool:
        """Whether it answers."""
        if not (self._folder / "supervisord.conf").exists():
            return False
        try:
            return self.call("getState")["statename"] == "RUNNING"
        except (OSError, xmlrpc.client.Error):
            return False

    def processes(self) -> dict[str, dict[str, Any]]:
        """What supervisor knows of each part (`statename`, `pid`, `start`); empty when off."""
        if not (self._folder / "supervisord.conf").exists():
            return {}
        try:
            return {line["name"]: line for line in self.call("getAllProcessInfo")}
        except (OSError, xmlrpc.client.Error):
            return {}

    # starting

    def launch(self, parts: Iterable[Part]) -> None:
        """Start the supervisor, with every part known and none started. Errors: `no_supervisor`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        configuration = self._folder / "supervisord.conf"
        draft = "".join([self._own_section(), *map(self._section, parts)])
        write_atomically(configuration, draft.encode())
        configuration.chmod(0o600)
        (self._folder / "supervisor.sock").unlink(missing_ok=True)
        surroundings = {name: value for name, value in os.environ.items() if not _is_ours(name)}
        started = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)],
            env={**surroundings, **_passed_on(), "TALLYSTICK_HOME": str(self._home.path)},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            cwd=self._home.path,
        )  # fmt: skip
        deadline = time.monotonic() + 15
        while not self.is_running():
            if started.returncode or time.monotonic() > deadline:
                raise StackError(
                    "no_supervisor",
                    f"Supervisor did not start: {started.stderr.strip()}\n"
                    f"{last_lines(self._home, 'supervisord')}",
                )
            time.sleep(0.05)

    def start(self, name: str) -> None:
        """Start a part, or leave it where it runs already."""
        with contextlib.suppress(xmlrpc.client.Fault):
            self.call("startProcess", name, _AT_ONCE)

    def stop(self, name: str) -> None:
        """Stop a part and wait until it is gone."""
        with contextlib.suppress(xmlrpc.client.Fault):
            self.call("stopProcess", name, _WHEN_DONE)

    def shut_down(self) -> None:
        """End the supervisor itself, and wait."""
        supervisor = psutil.Process(self.call("getPID"))
        with contextlib.suppress(OSError, xmlrpc.client.Error):
            self.call("shutdown")
        # It looks up once a second, and whenever it is called.
        deadline = time.monotonic() + 60
        while lives(supervisor) and time.monotonic() < deadline:
            self.is_running()
            time.sleep(0.02)

    # Paths are relative to the home, in which supervisor starts: it would expand a % in them.

    def _own_section(self) -> str:
        secret = self._home.secret("supervisor")
        if self._address().startswith("unix"):
            server = "[unix_http_server]\nfile=supervisor/supervisor.sock\nchmod=0700\n"
        else:
            server = f"[inet_http_server]\nport={self._home.address('supervisor')}\n"
        return (
            f"{server}username={_USER}\npassword={secret}\n"
            "[supervisord]\nlogfile=logs/supervisord.log\npidfile=supervisor/supervisord.pid\n"
            "childlogdir=logs\nidentifier=tallystick\nminfds=1024\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        )

    def _section(self, part: Part) -> str:
        command = shlex.join(
            [sys.executable, "-m", "ledger_service.stack.cli", "run", part.name, "--local"]
        ).replace("%", "%%")
        return (
            f"[program:{part.name}]\ncommand={command}\nautostart=false\nautorestart=true\n"
            f"startsecs=1\nstartretries=20\nstopsignal={part.stop_signal}\n"
            f"stopwaitsecs={part.drains_within}\nstopasgroup=true\nkillasgroup=true\n"
            f"redirect_stderr=true\nstdout_logfile=logs/{part.name}.log\n"
            "stdout_logfile_maxbytes=20MB\nstdout_logfile_backups=3\n"
        )


def _is_ours(name: str) -> bool:
    return name.startswith("TALLYSTICK_")


def _passed_on() -> dict[str, str]:
    """Settings of the caller that services read from their surroundings: none of them a secret."""
    names = ("TALLYSTICK_ENV", "TALLYSTICK_LOG_LEVEL", "TALLYSTICK_LOG_ORIGIN")
    return {name: os.environ[name] for name in names if name in os.environ}


# what was started, by pid and time of birth


def record(home: Home, name: str) -> None:
    """Put this process on record as the part `name`."""
    me = psutil.Process()
    text = json.dumps({"pid": me.pid, "created": me.create_time()})
    write_atomically(home / "supervisor" / f"{name}.process", text.encode())


def recorded(home: Home) -> dict[str, psutil.Process]:
    """The recorded parts that still live."""
    living: dict[str, psutil.Process] = {}
    for file in (home / "supervisor").glob("*.process"):
        with contextlib.suppress(ValueError, KeyError, OSError, psutil.Error):
            known = json.loads(file.read_text())
            process = psutil.Process(known["pid"])
            if abs(process.create_time() - known["created"]) < 0.1:
                living[file.stem] = process
    return living


def families(home: Home) -> list[psutil.Process]:
    """Every recorded part and all that came from it: its descendants, and whoever bears its mark.

    What a killed part leaves behind is no one's child any more, and may lead a session of its own;
    its environment still says where it came from.
    """
    ours = {process.pid for process in recorded(home).values()}
    parents: dict[int, int] = {}
    living: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            parents[process.pid] = process.ppid()
            living[process.pid] = process
            if process.environ().get(MARK) == str(home.path):
                ours.add(process.pid)

    def is_ours(pid: int) -> bool:
        while pid in parents and pid not in ours:
            pid = parents[pid]
        return pid in ours

    return [process for pid, process in living.items() if is_ours(pid)]


def lives(process: psutil.Process) -> bool:
    """Whether it still runs or holds anything; not so once it only waits to be reaped, by whomever."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for_ends(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until all have ended; gives those that have not."""
    deadline = time.monotonic() + seconds
    left = [process for process in processes if lives(process)]
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = [process for process in left if lives(process)]
    return left


def end_all(home: Home, known: Iterable[psutil.Process] = (), seconds: float = 20) -> list[str]:
    """End every recorded process that still lives, and those of `known`; gives who had to be ended.

    PostgreSQL gets SIGINT (a clean stop), all others SIGTERM; who stays is killed.
    """
    parts = recorded(home)
    left = {process.pid: process for process in [*known, *families(home)] if lives(process)}
    for name, process in parts.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
    wait_for_ends(parts.values(), seconds)
    stubborn = wait_for_ends(left.values(), 1)
    for process in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    wait_for_ends(stubborn, 10)
    for file in (home / "supervisor").glob("*.process"):
        file.unlink(missing_ok=True)
    return sorted(parts) or [str(process.pid) for process in stubborn]
