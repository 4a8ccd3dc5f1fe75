"""`tally identities`: the users and keys of this ledger."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import asyncpg
import click
from rich.console import Console
from rich.table import Table

from ledger_service.contract import environment
from ledger_service.contract.permissions import ROLES
from ledger_service.security import audit, provisioning
from ledger_service.security import identities as store
from ledger_service.security.errors import SecurityRefusal

Result = TypeVar("Result")
_role = click.option(
    "--role",
    "roles",
    multiple=True,
    required=True,
    type=click.Choice(ROLES),
    help="May be repeated.",
)


def _run(work: Callable[[asyncpg.Connection], Awaitable[Result]]) -> Result:
    """Do `work` in one transaction, as the role of TALLYSTICK_DATABASE_URL."""

    async def connected() -> Result:
        connection = await asyncpg.connect(environment.read("TALLYSTICK_DATABASE_URL"))
        try:
            async with connection.transaction():
                return await work(connection)
        finally:
            await connection.close()

    try:
        return asyncio.run(connected())
    except (SecurityRefusal, ValueError, environment.MissingSetting, OSError) as error:
        raise click.ClickException(str(error)) from None


async def _record(connection: asyncpg.Connection, action: str, subject: str) -> None:
    await audit.record(connection, actor="command_line", action=action, subject=subject)


def secrets_folder() -> Path:
    """Where this home keeps secrets: the folder for the owner alone."""
    folder = environment.home() / "secrets"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


@click.group()
def identities() -> None:
    """Users and API keys: make, show, revoke."""


@identities.command()
def provision() -> None:
    """Make the demo's users and keys, random per home; a second call changes nothing."""
    folder = secrets_folder()
    kept = provisioning.read(folder)

    async def work(connection: asyncpg.Connection) -> provisioning.Identities:
        return await provisioning.provision(connection, kept, folder)

    made = _run(work)
    click.echo(f"{len(made['users'])} users and {len(made['keys'])} keys are in {folder.name}/.")


@identities.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(as_json: bool) -> None:
    """The demo's sign-ins of this home."""
    users = provisioning.read(secrets_folder())["users"]
    if as_json:
        click.echo(json.dumps(users, indent=2))
        return
    table = Table("user", "roles", "password")
    for name, user in users.items():
        table.add_row(name, ", ".join(user["roles"]), user["password"])
    Console().print(table)


@identities.command("create-key")
@click.argument("name")
@_role
@click.option("--holder", help="User name of the person who holds the key; none: a service.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the token to this file (0600).")
def create_key(name: str, roles: tuple[str, ...], holder: str | None, out: Path | None) -> None:
    """Make an API key; its token is shown this once."""

    async def work(connection: asyncpg.Connection) -> str:
        user_id = None
        if holder is not None:
            user_id = await connection.fetchval(
                "select user_id from security.person where user_name = $1 and revoked_at is null",
                holder,
            )
            if user_id is None:
                raise SecurityRefusal("unknown_user", f"There is no live user {holder!r}.")
        token = await store.create_key(connection, name, roles, holder=user_id)
        await _record(connection, "key.created", token.row_id)
        return token.text

    token = _run(work)
    if out is None:
        click.echo(token)
    else:
        provisioning.write_secret(out, token.encode())


@identities.command("create-user")
@click.argument("name")
@_role
@click.password_option(help="At least 12 characters; asked for when not given.")
def create_user(name: str, roles: tuple[str, ...], password: str) -> None:
    """Make a user who signs in with a password."""

    async def work(connection: asyncpg.Connection) -> str:
        user_id = await store.create_user(connection, name, password, roles)
        await _record(connection, "user.created", user_id)
        return user_id

    click.echo(_run(work))


@identities.command()
@click.argument("name")
def revoke(name: str) -> None:
    """End a key, or a user with all sessions and held keys."""

    async def work(connection: asyncpg.Connection) -> list[str]:
        ended = await store.revoke(connection, name)
        for identity in ended:
            await _record(connection, "identity.revoked", identity)
        return ended

    click.echo("Revoked: " + ", ".join(_run(work)))
