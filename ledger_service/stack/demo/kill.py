"""Act 4: kill what carries the facts, in turn; the figures before and after are equal."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from ledger_service.stack import servers, services, supervision
from ledger_service.stack.demo import published, topics
from ledger_service.stack.demo.visitor import Api, eventually
from ledger_service.stack.errors import StackError
from ledger_service.stack.home import Home

VICTIMS = ("api", "relay", "dagster-daemon", "dagster-code")
"""Killing Dagster's code server ends the streaming run that it started, in the middle of its work."""


def figures(home: Home, api: Api) -> dict[str, Any]:
    """What must not change: heads, trial balances, the published marts' contents."""
    heads = published.wait_until_published(home, api, 180)
    return {
        "seq": heads,
        "trial_balances": {
            name: api.get(f"/v1/ledgers/{name}/trial-balance", at_seq=seq)["lines"]
            for name, seq in heads.items()
        },
        "marts": published.content(home),
    }


def kill_in_turn(home: Home, say: Callable[[str], None]) -> None:
    """Kill each victim with SIGKILL and wait for it to be back. Errors: `figures_differ`."""
    before = figures(home, Api(home, user="aud"))
    supervisor = supervision.Supervisor(home)
    for name in VICTIMS:
        pid = supervisor.processes()[name]["pid"]
        begun = time.monotonic()
        os.kill(pid, signal.SIGKILL)

        def is_back(name: str = name, killed: int = pid) -> bool:
            state = supervisor.processes().get(name, {})
            alive = state.get("statename") == "RUNNING" and state.get("pid") != killed
            return alive and servers.probe(home, services.TABLE[name]) is None

        eventually(f"Restart of {name}", 120, is_back)
        say(f"  {name:16s} killed and back in {time.monotonic() - begun:.1f} s")
    api = Api(home, user="aud")
    after = figures(home, api)
    for what, value in before.items():
        if after[what] != value:
            raise StackError("figures_differ", f"{what} changed while services were killed.")
    for ledger, seq in before["seq"].items():
        wrong = topics.first_difference(home, api, ledger, seq)
        if wrong is not None:
            raise StackError(
                "figures_differ", f"Kafka and the journal of {ledger} differ at seq {wrong}."
            )
    counted = ", ".join(f"{name} at seq {seq:,}" for name, seq in sorted(before["seq"].items()))
    say(
        f"  Figures before and after are equal: {counted}; {len(before['marts'])} marts; Kafka = journal."
    )
