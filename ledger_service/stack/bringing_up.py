"""`tally up` and `tally down`: each part once those it needs are ready, many at once."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

import psutil

from ledger_service.stack import logins, probes, servers, services, settings, supervision
from ledger_service.stack.errors import StackError
from ledger_service.stack.home import Home, is_free
from ledger_service.stack.kafka.server import java, maven
from ledger_service.stack.postgres import as_ordinary_user, binaries
from ledger_service.stack.services import Part

Say = Callable[[str], None]
Ready = Callable[[str], None]
"""Told the name of each part that others may now build on."""
_FAILED_STARTS = 3
"""So often a part may end before it is ready; then `up` gives up on it."""


def up(
    home: Home,
    only: Sequence[str],
    wait_seconds: float | None,
    say: Say,
    ready: Ready = lambda _name: None,
) -> None:
    """Start what is not running; gives when all is ready. Errors: `StackError` of many codes."""
    home.create()
    parts = services.known()
    wanted = services.chosen(only, parts)
    supervisor = supervision.Supervisor(home)
    running = supervisor.is_running()
    steps_asked = any(parts[name].kind == "step" for name in only)
    if running and not steps_asked and not _unready(home, wanted, supervisor):
        say("Everything is running.")
        return
    if not running:
        orphans = supervision.end_all(home)
        if orphans:
            say(f"Ended what an earlier run had left: {', '.join(orphans)}.")
        settings.remember_given(home)
    _check_machine(home, wanted, supervisor)
    if not running:
        supervisor.launch(part for part in parts.values() if part.kind != "step")
    _in_order(wanted, _Starter(home, supervisor, wait_seconds, say, ready).start)
    # Supervisor calls a part running only when it has lived for a second; a quick one is ready before.
    probes.wait("supervisor", lambda: _not_running(home, wanted, supervisor), wait_seconds or 20)


def _not_running(
    home: Home, wanted: Sequence[Part], supervisor: supervision.Supervisor
) -> str | None:
    unready = _unready(home, wanted, supervisor)
    return f"{', '.join(unready)} ended again" if unready else None


def _unready(home: Home, wanted: Sequence[Part], supervisor: supervision.Supervisor) -> list[str]:
    """Names of the parts that do not run or are not ready, all asked at once."""
    states = supervisor.processes()

    def ask(part: Part) -> bool:
        if servers.is_elsewhere(home, part):
            return True
        return states.get(part.name, {}).get("statename") == "RUNNING" and not servers.probe(
            home, part
        )

    asked = [part for part in wanted if part.kind != "step"]
    with concurrent.futures.ThreadPoolExecutor(max_workers=16) as pool:
        return [
            part.name for part, ready in zip(asked, pool.map(ask, asked), strict=True) if not ready
        ]


def _check_machine(home: Home, wanted: Sequence[Part], supervisor: supervision.Supervisor) -> None:
    """Refuse before anything is started. Errors: `port_taken`, `no_java`, `no_maven`, ..."""
    states = supervisor.processes()
    for part in wanted:
        if servers.is_elsewhere(home, part):
            continue
        if part.name == "kafka":
            java()
            maven(servers.kafka(home).lib)
        if part.name == "postgres":
            binaries()
            as_ordinary_user()
        if states.get(part.name, {}).get("pid"):
            continue
        for name in part.ports:
            _check_port(home, part, name)


def _check_port(home: Home, part: Part, name: str) -> None:
    port = home.port(name)
    if not is_free(port):
        raise StackError(
            "port_taken",
            f"Port {port} of {part.name} is taken by another program. Free it, or delete the line "
            f'"{name}" in {home / "ports.json"} and another port is chosen at the next `tally up`.',
        )


class _Starter:
    """Starts one part after the other on behalf of `_in_order`, from several threads."""

    def __init__(
        self,
        home: Home,
        supervisor: supervision.Supervisor,
        wait_seconds: float | None,
        say: Say,
        ready: Ready,
    ) -> None:
        self._home = home
        self._supervisor = supervisor
        self._wait_seconds = wait_seconds
        self._say = say
        self._ready = ready
        self._voice = threading.Lock()

    def start(self, part: Part) -> None:
        """Bring one part to where others may build on it."""
        begun = time.monotonic()
        if servers.is_elsewhere(self._home, part):
            probes.wait(
                part.name, lambda: servers.probe(self._home, part), self._wait_seconds or 20
            )
        elif part.kind == "step":
            self._step(part)
        else:
            self._process(part)
        with self._voice:
            verb = "done" if part.kind == "step" else "ready"
            self._say(f"{part.name:18s} {verb} in {time.monotonic() - begun:.1f} s")
            self._ready(part.name)

    def _process(self, part: Part) -> None:
        servers.prepare(self._home, part)
        settings.of(self._home, part)  # makes the secrets, and names what is missing
        self._supervisor.start(part.name)
        starts: set[int] = set()

        def alive() -> bool:
            state = self._supervisor.processes().get(part.name, {})
            starts.add(state.get("start", 0))
            return (
                state.get("statename") not in ("FATAL", "EXITED") and len(starts) <= _FAILED_STARTS
            )

        seconds = self._wait_seconds or part.ready_within
        try:
            probes.wait(part.name, lambda: servers.probe(self._home, part), seconds, alive)
        except StackError as error:
            raise StackError(
                "not_ready",
                f"{error}\nThe last lines of its log:\n"
                f"{supervision.last_lines(self._home, part.name)}\n"
                f"See `tally logs {part.name}`; once mended, `tally up` goes on from here, and "
                "`tally down` stops what runs.",
            ) from None

    def _step(self, part: Part) -> None:
        if part.name == "database":
            create_database(self._home)
        if part.name == "kafka-logins":
            create_kafka_logins(self._home)
        for command in part.commands:
            run_command(self._home, part, command)


def create_database(home: Home) -> None:
    """The database with its owner and logins; on a server elsewhere, the logins only."""
    import psycopg

    from ledger_service.stack import database

    if settings.given(home, "postgres") is None:
        admin = settings.admin_url(home)
        with psycopg.connect(admin, autocommit=True) as connection:
            database.create_owner(connection, home.secret("database_owner"))
        database.create_database(admin, settings.DATABASE)
    owner = settings.owner_url(home)
    database.create_logins(owner, logins.database_of(owner), settings.login_passwords(home))


def create_kafka_logins(home: Home) -> None:
    """A login per part at Kafka, with its rights; none where the Kafka that was given takes none."""
    from ledger_service.stack.kafka import rights

    admin = servers.kafka_admin(home)
    if admin.security != "PLAINTEXT":
        rights.grant(admin, {login: home.secret(f"kafka_{login}") for login in rights.LOGINS})


def run_command(home: Home, part: Part, command: Sequence[str]) -> None:
    """One `tally` command of a step. Errors: `step_failed`, with its last lines."""
    name = "-".join(command)
    log = supervision.log_file(home, name)
    with log.open("ab") as out:
        done = subprocess.run(
            [sys.executable, "-m", "ledger_service.stack.cli", *command],
            env=settings.process_environment(home, part),
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=home.path,
            check=False,
        )  # fmt: skip
    if done.returncode:
        raise StackError(
            "step_failed",
            f"`tally {' '.join(command)}` failed. The last lines of its log ({log}):\n"
            f"{supervision.last_lines(home, name)}",
        )


def _in_order(
    parts: Sequence[Part], work: Callable[[Part], None], *, backwards: bool = False
) -> None:
    """Do `work` for every part once those it needs (backwards: that need it) are done.

    The first error stops what has not begun, and is raised once what has begun is over.
    """
    names = {part.name for part in parts}
    needs = {part.name: {need for need in part.needs if need in names} for part in parts}
    if backwards:
        needs = {name: {other for other, its in needs.items() if name in its} for name in names}
    waiting = {part.name: part for part in parts}
    done: set[str] = set()
    under_way: dict[concurrent.futures.Future[None], str] = {}
    failure: BaseException | None = None
    with concurrent.futures.ThreadPoolExecutor(max_workers=len(parts) or 1) as pool:
        while waiting or under_way:
            ready = [] if failure else [name for name in waiting if needs[name] <= done]
            under_way |= {pool.submit(work, waiting.pop(name)): name for name in ready}
            if not under_way:
                break
            over, _ = concurrent.futures.wait(
                under_way, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in over:
                done.add(under_way.pop(future))
                failure = failure or future.exception()
    if failure:
        raise failure


def down(home: Home, say: Say) -> None:
    """Stop everything, what is needed by others last; nothing is left running."""
    supervisor = supervision.Supervisor(home)
    family: list[psutil.Process] = supervision.families(home)
    if supervisor.is_running():
        states = supervisor.processes()
        alive = [part for part in services.known().values() if states.get(part.name, {}).get("pid")]
        # a part that waits to be tried again has no pid, and must not be tried again now
        resting = [name for name, state in states.items() if state.get("statename") == "BACKOFF"]
        for name in resting:
            supervisor.stop(name)
        _in_order(_skipping_steps(alive), lambda part: supervisor.stop(part.name), backwards=True)
        family += [one for one in supervision.families(home) if one not in family]
        with contextlib.suppress(OSError):
            supervisor.shut_down()
    elif not family:
        say("Nothing is running.")
        return
    supervision.end_all(home, family)
    say("Stopped.")


def _skipping_steps(alive: Sequence[Part]) -> list[Part]:
    """The same parts, each needing what its needs need in the place of steps, which do not run."""
    table = services.known()

    def through(names: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for name in names:
            part = table[name]
            found |= through(part.needs) if part.kind == "step" else {name}
        return found

    return [dataclasses.replace(part, needs=tuple(sorted(through(part.needs)))) for part in alive]
