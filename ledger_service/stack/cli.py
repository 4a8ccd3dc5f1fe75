"""`tally`: one command, put together from every room's own.

A room's module is imported only when its command is called, so that `tally --help` is quick. An
error that has a name is printed as one line on standard error with exit code 2; anything else is a
defect and shows its traceback.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import EntryPoint, entry_points, version
from typing import Any

import click

GROUP = "tallystick.commands"
ROOMS = ("ledger_service", "pipelines", "monitoring")
_FIRST = ("up", "down", "status", "logs", "run", "config", "doctor")

HELP = {
    "up": "Start the local stack, or what is missing of it.",
    "down": "Stop the local stack; nothing is left running.",
    "status": "Say what runs, where, and whether it is ready.",
    "logs": "Show the last lines of a part's log.",
    "run": "Run one service or server in the foreground.",
    "config": "Check the settings in the environment.",
    "doctor": "Say what this machine lacks, and how to install it.",
    "demo": "Take a quarter of bank traffic through every room.",
    "migrate": "Bring the ledger's database to the newest step.",
    "identities": "Users and API keys.",
    "load": "Post a file of transfers by a mapping.",
    "simulate": "Make and post traffic with planted findings.",
    "statements": "Statements of partner banks.",
    "pipeline": "Run the pipelines by hand.",
    "snapshot": "Published snapshots of the marts: list, compare, export, pin.",
    "sql": "Ask a published snapshot of the marts.",
    "monitor": "Alerts: tables and checks.",
    "verify": "Check the ledger against its journal, tree and checkpoints.",
    "replay": "Publish a range of events once more, into a topic of its own.",
    "rebuild": "Derive projections from the journal again, while all runs.",
    "export": "Write a whole ledger as files, to leave with.",
    "import": "Bring an exported ledger in, where it is empty.",
    "pack": "Write an auditor's pack of events and proofs.",
    "contract": "Schemas of the events, and whether they keep what was released.",
}
"""Short help without importing the rooms."""


class Rooms(click.Group):
    """Commands from entry points, loaded when they are called."""

    def _entries(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=GROUP)}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        names = set(self._entries())
        return [name for name in _FIRST if name in names] + sorted(names.difference(_FIRST))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = self._entries().get(cmd_name)
        return entry.load() if entry else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, HELP.get(name, "")) for name in self.list_commands(ctx)])


@click.group(cls=Rooms, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("tallystick"), prog_name="tally")
@click.pass_context
def tally(context: click.Context) -> None:
    """Tallystick: a double-entry payments ledger with its pipelines and monitoring."""
    from ledger_service.stack import services, settings

    command = services.COMMANDS.get(context.invoked_subcommand or "")
    if command:
        os.environ.update(settings.fill_in(command, os.environ))


def is_named(error: BaseException) -> bool:
    """Whether `error` is one of ours that says what to do: it has a `code`, or names a setting."""
    from ledger_service.contract.environment import MissingSetting

    ours = type(error).__module__.partition(".")[0] in ROOMS
    return isinstance(error, MissingSetting) or (
        ours and isinstance(getattr(error, "code", None), str)
    )


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `tally`."""
    try:
        result: Any = tally.main(arguments, prog_name="tally", standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # the reader of a pipe (`tally logs api | head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if not is_named(error):
            raise
        click.echo(f"Error ({getattr(error, 'code', 'missing_setting')}): {error}", err=True)
        sys.exit(2)
    sys.exit(result if isinstance(result, int) else 0)


if __name__ == "__main__":
    main()
