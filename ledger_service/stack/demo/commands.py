"""`tally demo`."""

from __future__ import annotations

from pathlib import Path

import click

from ledger_service.stack.home import Home


@click.group(invoke_without_command=True)
@click.option(
    "--exit",
    "leave",
    is_flag=True,
    help="Play the five acts by script, stop, exit 0 only if all held.",
)
@click.option(
    "--customers", default=400, show_default=True, help="Customers of the simulated ledger."
)
@click.option(
    "--days", default=90, show_default=True, type=click.IntRange(45, 90), help="Days of it."
)
@click.pass_context
def demo(context: click.Context, leave: bool, customers: int, days: int) -> int | None:
    """Take a quarter of bank traffic through every room, and judge what was found."""
    if context.invoked_subcommand:
        return None
    from ledger_service.stack.demo.play import run

    sound = run(Home.current(), Path.cwd(), leave=leave, customers=customers, days=days)
    return 0 if sound else 1


@demo.command()
def acts() -> int:
    """Play the five acts by script, on the demo that is up."""
    from ledger_service.stack.demo.play import play_acts

    return 0 if play_acts(Home.current()) else 1


@demo.command()
def kill() -> None:
    """Act 4: kill API, relay and Dagster in turn; figures before and after are equal."""
    from ledger_service.stack.demo.kill import kill_in_turn

    kill_in_turn(Home.current(), click.echo)


@demo.command()
def tamper() -> None:
    """Act 5: on a copy, a superuser changes one cent, and two verifiers find it."""
    from ledger_service.stack.demo.tamper import tamper as act

    act(Home.current(), click.echo)


@demo.command()
def figures() -> None:
    """Print the figures of the last demo."""
    from ledger_service.stack.demo.page import print_figures

    print_figures(Home.current())
