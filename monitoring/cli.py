"""`tally monitor`: the tables of monitoring, and the check that they hold."""

from __future__ import annotations

from pathlib import Path

import click
import psycopg
from alembic import command
from alembic.config import Config

from ledger_service.contract import environment


def upgrade(url: str) -> None:
    """Run the missing steps on the database at `url`, as the login that owns schema `monitoring`.

    Safe to call again. Creates the schema where the login may and it is missing.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    scheme, _, rest = url.partition("://")
    config.attributes["url"] = (
        f"postgresql+psycopg://{rest}" if scheme in ("postgresql", "postgres") else url
    )
    command.upgrade(config, "head")


@click.group()
def monitor() -> None:
    """Alerts: migrate their tables, verify their history (need TALLYSTICK_DATABASE_URL)."""


@monitor.command()
def migrate() -> None:
    """Bring schema `monitoring` to the newest step."""
    upgrade(environment.read("TALLYSTICK_DATABASE_URL"))
    click.echo("Schema monitoring is at the newest step.")


@monitor.command()
def verify() -> None:
    """Rebuild every alert from its events, check the audit log's chain; exit 1 if they differ."""
    from monitoring.verify import differences

    with psycopg.connect(environment.read("TALLYSTICK_DATABASE_URL")) as connection:
        found = differences(connection)
    for line in found:
        click.echo(line, err=True)
    click.echo(
        f"{len(found)} differences."
        if found
        else "Alerts equal their events; the audit log's chain holds."
    )
    if found:
        raise SystemExit(1)
