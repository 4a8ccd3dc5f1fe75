"""`tally run NAME`: one part in the foreground, in this very process."""

from __future__ import annotations

import os
from importlib.metadata import entry_points

from ledger_service.stack import servers, services, settings, supervision
from ledger_service.stack.errors import StackError
from ledger_service.stack.home import Home


def run_part(home: Home, name: str, *, local: bool) -> None:
    """Become the part `name`. With `local`, its settings are those of the stack in `home`, and it
    gets no secret beyond them. Errors: `unknown_part`, `no_service`.
    """
    parts = services.known()
    part = parts.get(name)
    if part is None or part.kind == "step":
        names = ", ".join(other.name for other in parts.values() if other.kind != "step")
        raise StackError("unknown_part", f"There is no {name!r} to run; there are {names}.")
    if local or part.kind == "server":
        home.create()
        surroundings = settings.process_environment(home, part)
        servers.prepare(home, part)
        os.environ.clear()
        os.environ.update(surroundings)
        os.chdir(home.path)
    if local:
        supervision.record(home, name)
    if part.kind == "server":
        command = servers.command(home, part)
        os.execvp(command[0], command)  # noqa: S606 - the server takes this process's place
    found = list(entry_points(group="tallystick.services", name=name))
    if not found:
        raise StackError("no_service", f"No installed package has the service {name!r}.")
    found[0].load()()
