"""`tally migrate`: bring the ledger's database to the newest step."""

from __future__ import annotations

from pathlib import Path

import click
from alembic import command
from alembic.config import Config

from ledger_service.contract import environment


def upgrade(url: str, revision: str = "head") -> None:
    """Run the missing steps on the database at `url` (as its owner). Safe to call again."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    for scheme in ("postgresql://", "postgres://"):
        url = url.replace(scheme, "postgresql+psycopg://", 1) if url.startswith(scheme) else url
    config.attributes["url"] = url
    command.upgrade(config, revision)


@click.command()
def migrate() -> None:
    """Bring the ledger's database to the newest step (needs TALLYSTICK_OWNER_DATABASE_URL)."""
    upgrade(environment.read("TALLYSTICK_OWNER_DATABASE_URL"))
    click.echo("The ledger's database is at the newest step.")
