"""The ledger's database and its logins: one login per role, each a member of `tallystick_<role>`.

The group roles carry the rights (migrations grant them); the logins carry the passwords. The
monitor and the console share a login that is no member of any of them and owns the schema
`monitoring` only.
"""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg import errors, sql

from ledger_service.stack.errors import StackError
from ledger_service.stack.logins import MONITOR, OWNER, ROLES, login


def create_owner(connection: psycopg.Connection, password: str) -> None:
    """The owner of databases: may make roles, is no superuser."""
    _login(connection, OWNER, password)
    connection.execute(sql.SQL("alter role {} createrole").format(sql.Identifier(OWNER)))


def create_database(admin_url: str, database: str) -> None:
    """The database, owned by `OWNER`, if it is not there yet."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        if connection.execute(
            "select 1 from pg_database where datname = %s", [database]
        ).fetchone():
            return
        connection.execute(
            sql.SQL("create database {} owner {}").format(
                sql.Identifier(database), sql.Identifier(OWNER)
            )
        )


def create_logins(url: str, database: str, passwords: Mapping[str, str]) -> None:
    """The group roles, a login per role of `passwords`, and the schema `monitoring` of its login.

    `url` is the owner's or the superuser's. Safe to call again: passwords are set anew.
    Errors: `logins_not_allowed`, where that user may make no roles.
    """
    try:
        with psycopg.connect(url) as connection:
            for role in ROLES:
                group = sql.Identifier(f"tallystick_{role}")
                _role(connection, f"tallystick_{role}", sql.SQL("nologin"))
                name = login(database, role)
                _login(connection, name, passwords[role])
                connection.execute(sql.SQL("grant {} to {}").format(group, sql.Identifier(name)))
            name = login(database, MONITOR)
            _login(connection, name, passwords[MONITOR])
            _own_schema(connection, name, "monitoring")
    except errors.InsufficientPrivilege as error:
        raise StackError(
            "logins_not_allowed",
            f"The user of TALLYSTICK_DATABASE_URL may not make the logins of {database} "
            f"({error.diag.message_primary}); "
            "have its administrator run: alter role <that user> createrole",
        ) from None


def _own_schema(connection: psycopg.Connection, owner: str, schema: str) -> None:
    # to give a schema to a role one must be able to act as that role
    connection.execute(
        sql.SQL("grant {} to current_user with set true").format(sql.Identifier(owner))
    )
    connection.execute(
        sql.SQL("create schema if not exists {} authorization {}").format(
            sql.Identifier(schema), sql.Identifier(owner)
        )
    )


def _login(connection: psycopg.Connection, name: str, password: str) -> None:
    _role(connection, name, sql.SQL("login"))
    statement = sql.SQL("alter role {} login password {}")
    connection.execute(statement.format(sql.Identifier(name), sql.Literal(password)))


def _role(connection: psycopg.Connection, name: str, kind: sql.SQL) -> None:
    known = connection.execute("select 1 from pg_roles where rolname = %s", [name]).fetchone()
    if not known:
        connection.execute(sql.SQL("create role {} {}").format(sql.Identifier(name), kind))
