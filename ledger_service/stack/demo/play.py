"""The demo's course: up, traffic, statements, published marts, a score, and the five acts."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec

from ledger_service.contract.snapshots import write_atomically
from ledger_service.stack import bringing_up
from ledger_service.stack.demo import acts, kill, page, published, score, tamper, topics
from ledger_service.stack.demo.memory import PeakMemory
from ledger_service.stack.demo.visitor import Api, eventually
from ledger_service.stack.errors import StackError
from ledger_service.stack.home import Home

SHARED = Path("..") / "shared" / "data" / "transactions" / "amlgentex"
"""Real input made by others, beside the checkout; the demo uses it where it is there."""
DAYS = 90


POSTING = frozenset({"api", "bank", "relay", "console"})
"""What has to run before money can be posted and watched."""


def _say(line: str) -> None:
    click.echo(f"  {line}")


class Clock:
    """Seconds per room, in the order in which they were spent."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def room(self, name: str) -> Iterator[None]:
        """Count the time inside towards `name`."""
        begun = time.monotonic()
        click.echo(click.style(f"· {name}", bold=True))
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begun


def tally(*arguments: str) -> None:
    """A `tally` command, its output shown. Errors: `command_failed`."""
    done = subprocess.run(
        [sys.executable, "-m", "ledger_service.stack.cli", *arguments], check=False
    )
    if done.returncode:
        raise StackError(
            "command_failed", f"`tally {' '.join(arguments)}` ended with {done.returncode}."
        )


def first_day(home: Home) -> dt.date:
    """First day of the simulated quarter, which ends yesterday; the same at every later run."""
    file = home / "simulations" / "demo_start"
    if not file.exists():
        start = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=DAYS)
        write_atomically(file, start.isoformat().encode())
    return dt.date.fromisoformat(file.read_text())


def post_traffic(home: Home, checkout: Path, customers: int, days: int) -> list[str]:
    """Post the simulated ledger, and AMLGentex where it is there; gives the ledgers."""
    start = first_day(home) + dt.timedelta(days=DAYS - days)
    tally(
        "simulate", "--ledger", "simulated", "--customers", str(customers), "--days", str(days),
        "--start", start.isoformat(),
    )  # fmt: skip
    file = checkout / SHARED / "tx_log.parquet"
    if not file.exists():
        click.echo("  ../shared/data is not here: the simulated ledger alone.")
        return ["simulated"]
    tally("load", str(file), "--mapping", "amlgentex")
    return ["simulated", "amlgentex"]


def run(home: Home, checkout: Path, *, leave: bool, customers: int, days: int) -> bool:
    """The whole demo; gives whether everything planted was found and every check held."""
    clock = Clock()
    with PeakMemory(home) as memory:
        with ThreadPoolExecutor(max_workers=1) as rest:
            ready: set[str] = set()
            everything = rest.submit(bringing_up.up, home, (), None, _say, ready.add)
            with clock.room("setup"):
                # Dagster takes longest to start and is needed last: it comes up while money is posted.
                _wait_for(POSTING, ready, everything)
            with clock.room("posting"):
                ledgers = post_traffic(home, checkout, customers, days)
            with clock.room("statements"):
                tally("statements", "fetch")
            everything.result()
        with clock.room("pipeline"):
            auditor = Api(home, user="aud")
            heads = published.wait_until_published(home, auditor, 600)
            _wait_for_alerts(home)
            acts.pending_reversal(home)
        with clock.room("checks"):
            checks = _checks(home, auditor, heads)
            _wait_for_reports(home)
    result = score.judge(home, checkout / SHARED, ledgers)
    figures = page.figures(clock.seconds, result, heads, memory.peak_mb)
    write_atomically(home / "bench" / "bench-demo.json", json.dumps(figures, indent=1).encode())
    write_atomically(home / "bench" / "demo-score.json", msgspec.json.encode(result))
    page.show(home, figures, result, checks)
    sound = result.all_found and all(held for _, held in checks)
    if leave:
        sound = play_acts(home) and sound
        bringing_up.down(home, click.echo)
    return sound


def _wait_for(names: frozenset[str], ready: set[str], start: Future[None]) -> None:
    """Wait until these parts are ready, while all are being started. Errors: those of the start."""
    while not names <= ready:
        if start.done():
            start.result()
            return
        time.sleep(0.1)


def _wait_for_alerts(home: Home) -> None:
    """Wait until every published candidate has become an alert."""
    marts = published.marts(home, "restricted")
    wanted = published.rows(marts, "select count(*) as candidates from alert_candidates")[0][
        "candidates"
    ]
    eventually(
        "Alerts of the published candidates", 60, lambda: score.alert_count(home) >= wanted or None
    )


def _wait_for_reports(home: Home) -> None:
    day = acts.last_break(home)["day"]
    report = home / "reports" / "fbo" / "simulated" / f"{day}.pdf"
    eventually(f"The report of {day}", 180, report.exists)


def _checks(home: Home, api: Api, heads: dict[str, int]) -> list[tuple[str, bool]]:
    """What must hold beside the score: name and verdict."""
    found: list[tuple[str, bool]] = []
    for ledger, seq in heads.items():
        balance = api.get(f"/v1/ledgers/{ledger}/trial-balance", at_seq=seq)
        found.append((f"{ledger}: debits = credits", bool(balance["balanced"])))
        found.append(
            (f"{ledger}: Kafka = journal", topics.first_difference(home, api, ledger, seq) is None)
        )
    verified = subprocess.run(
        [sys.executable, "-m", "ledger_service.stack.cli", "verify", "--full", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found.append(("tally verify", verified.returncode == 0))
    return found


def play_acts(home: Home) -> bool:
    """The five acts by script; gives whether each ended as it must."""
    plays: list[tuple[str, Any]] = [
        ("1 An alert", acts.alert),
        ("2 A reversal", acts.reversal),
        ("3 A break", acts.open_break),
        ("4 Killed in turn", kill.kill_in_turn),
        ("5 One cent", tamper.tamper),
    ]
    sound = True
    for name, play in plays:
        click.echo(click.style(f"Act {name}", bold=True))
        try:
            play(home, click.echo)
        except StackError as error:
            sound = False
            click.echo(f"  FAILED ({error.code}): {error}")
    return sound
