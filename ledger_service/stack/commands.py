"""The stack's commands: up, down, status, logs, run, config, doctor."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import click

from ledger_service.contract import environment
from ledger_service.stack.errors import StackError
from ledger_service.stack.home import Home


@click.command()
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="Only this part and what it needs; may be repeated.",
)
@click.option(
    "--wait",
    "wait_seconds",
    type=float,
    help="Seconds to wait for each part, instead of its own limit.",
)
@click.argument("names", nargs=-1)
def up(only: tuple[str, ...], wait_seconds: float | None, names: tuple[str, ...]) -> None:
    """Start the local stack, or what is missing of it; with NAMES only those and what they need."""
    from ledger_service.stack.bringing_up import up as bring_up

    wanted = [name for text in (*only, *names) for name in text.split(",") if name]
    bring_up(Home.current(), wanted, wait_seconds, click.echo)


@click.command()
def down() -> None:
    """Stop the local stack; nothing is left running."""
    from ledger_service.stack.bringing_up import down as take_down

    take_down(Home.current(), click.echo)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Everything, for programs.")
def status(as_json: bool) -> int:
    """Say what runs, where, and whether it is ready. Exit 1 unless all that runs is ready."""
    from ledger_service.stack.status import report

    lines = report(Home.current())
    if as_json:
        click.echo(json.dumps({"home": str(Home.current().path), "services": lines}, indent=1))
    else:
        _print_table(lines)
    started = [line for line in lines.values() if line["state"] != "STOPPED"]
    return 0 if started and all(line["ready"] for line in started) else 1


def _print_table(lines: dict[str, dict[str, Any]]) -> None:
    if not lines:
        click.echo("Nothing is running: `tally up` starts the local stack.")
    for name, line in lines.items():
        ready = "ready" if line["ready"] else (line["probe"] or "")
        memory = f"{line['rss_mb']:6.0f} MB" if line["pid"] else " " * 9
        uptime = f"{line['uptime_s']:7.0f} s" if line["pid"] else " " * 9
        click.echo(
            f"{name:18s} {line['state']:9s} {line['pid'] or '':>8} {uptime} {memory}  "
            f"{line['url'] or '':28s} {ready}"
        )


@click.command()
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on printing new lines.")
@click.option("-n", "--lines", default=50, show_default=True, help="How many lines.")
def logs(name: str, follow: bool, lines: int) -> None:
    """Show the last lines of a part's log."""
    from ledger_service.stack import supervision

    home = Home.current()
    path = supervision.log_file(home, name)
    if not path.exists():
        have = ", ".join(sorted(file.stem for file in (home / "logs").glob("*.log"))) or "none yet"
        raise StackError("no_log", f"There is no log of {name!r}; there are: {have}.")
    click.echo(supervision.last_lines(home, name, lines))
    position = path.stat().st_size
    while follow:
        time.sleep(0.3)
        size = path.stat().st_size if path.exists() else 0
        if size < position:
            position = 0  # rotated
        if size > position:
            with path.open("rb") as file:
                file.seek(position)
                news = file.read()
            position += len(news)
            click.echo(news.decode(errors="replace"), nl=False)


@click.command()
@click.argument("name")
@click.option("--local", is_flag=True, help="With the settings of the local stack in this home.")
def run(name: str, local: bool) -> None:
    """Run one service or server in the foreground.

    A service takes its settings from the environment (`tally config check NAME` says which); a
    server is always that of the local stack.
    """
    from ledger_service.stack.running import run_part

    run_part(Home.current(), name, local=local)


@click.group()
def config() -> None:
    """Check the settings in the environment."""


@config.command()
@click.argument("service", required=False)
def check(service: str | None) -> int:
    """Say what each setting is and where it comes from; exit 2 where one is unknown or missing.

    With SERVICE, only the settings that this service reads, as `tally run SERVICE` would find them.
    """
    from ledger_service.stack import services
    from ledger_service.stack.settings import PREFIX

    names = list(environment.SETTINGS)
    if service:
        parts = services.known()
        if service not in parts:
            raise StackError(
                "unknown_part", f"There is no {service!r}; there are {', '.join(parts)}."
            )
        names = [PREFIX + name for name in parts[service].settings]
    wrong = [] if service else _unknown_settings()
    for name in names:
        setting = environment.SETTINGS[name]
        given = os.environ.get(name)
        if given is not None:
            said = "set (secret)" if setting.secret else f"set: {given}"
        else:
            said = "required" if setting.default is None else f"default: {setting.default or '-'}"
            if service and setting.default is None:
                wrong.append(f"Set {name}: {setting.meaning}")
        click.echo(f"{name:32s} {said:32s} {setting.meaning}")
    for line in wrong:
        click.echo(line, err=True)
    return 2 if wrong else 0


def _unknown_settings() -> list[str]:
    """Names that look like settings and are none: a slip of the pen would else go unnoticed."""
    return [
        f"{name} is no setting of Tallystick; see the names above."
        for name in sorted(os.environ)
        if name.startswith("TALLYSTICK_") and name not in environment.SETTINGS
    ]


@click.command()
def doctor() -> int:
    """Say what this machine lacks, and how to install it. Exit 1 where the stack can't run."""
    from ledger_service.stack.doctor import examine

    findings = examine(Home.current())
    for finding in findings:
        mark = "ok     " if finding.good else ("MISSING" if finding.needed else "absent ")
        click.echo(f"{mark}  {finding.what:24s} {finding.said}")
        if not finding.good:
            click.echo(f"         {'':24s} {finding.remedy}")
    return 1 if any(finding.needed and not finding.good for finding in findings) else 0
