"""Persons and API keys: who there is, and who a bearer token belongs to."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Literal, NamedTuple

import asyncpg

from ledger_service.contract import environment
from ledger_service.contract.identifiers import random_id, refuse_personal
from ledger_service.contract.permissions import ROLES
from ledger_service.security.credentials import (
    Token,
    hash_password,
    hash_secret,
    new_token,
    parse_token,
    same,
)
from ledger_service.security.errors import SecurityRefusal

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy


class Identity(NamedTuple):
    """Who calls. `actor` is a key's or a user's id."""

    actor: str
    name: str
    """The name an administrator gave the key or user: for the caller's own eyes only."""
    roles: frozenset[str]
    kind: Literal["key", "session"]
    session_id: str | None
    ends_at: dt.datetime | None
    """When the session ends by itself; None for a key."""


_BY_KEY = """
select k.key_id as actor, k.name, k.secret_hash, k.roles, k.demo, null as session_id,
       null::timestamptz as ends_at
  from security.api_key k left join security.person p on p.user_id = k.holder
 where k.key_id = $1 and k.revoked_at is null and p.revoked_at is null
"""
_BY_SESSION = """
select p.user_id as actor, p.user_name as name, s.secret_hash, p.roles, p.demo, s.session_id,
       s.expires_at as ends_at
  from security.session s join security.person p using (user_id)
 where s.session_id = $1 and s.revoked_at is null and p.revoked_at is null
   and s.expires_at > clock_timestamp()
"""


def demo_allowed() -> bool:
    """Whether demo identities are taken: only where TALLYSTICK_ENV says demo."""
    return environment.read("TALLYSTICK_ENV") == "demo"


async def authenticate(connection: Connection, bearer: str) -> Identity:
    """The identity a bearer token belongs to.

    Errors: `unauthenticated` (unknown, wrong, revoked and expired look the same),
    `demo_identity_refused`.
    """
    token = parse_token(bearer)
    if token is not None:
        row = await connection.fetchrow(
            _BY_KEY if token.kind == "tsk" else _BY_SESSION, token.row_id
        )
        stored = bytes(row["secret_hash"]) if row else b""
        if same(stored, hash_secret(token)) and row is not None:
            refuse_demo(row["demo"])
            return Identity(
                actor=row["actor"],
                name=row["name"],
                roles=frozenset(row["roles"]),
                kind="key" if token.kind == "tsk" else "session",
                session_id=row["session_id"],
                ends_at=row["ends_at"],
            )
    raise SecurityRefusal("unauthenticated", "The bearer token is not known or no longer valid.")


def refuse_demo(is_demo: bool) -> None:
    """Errors: `demo_identity_refused` for a demo identity outside the demo."""
    if is_demo and not demo_allowed():
        raise SecurityRefusal(
            "demo_identity_refused",
            "This identity was made for a demo; make real ones with `tally identities`.",
        )


def _checked(name: str, roles: Iterable[str]) -> list[str]:
    refuse_personal(name, "name")
    wanted = sorted(set(roles))
    unknown = [role for role in wanted if role not in ROLES]
    if unknown or not wanted:
        raise SecurityRefusal(
            "unknown_role",
            f"Roles are one or more of {', '.join(ROLES)}; not {', '.join(unknown)}.",
        )
    return wanted


async def create_user(
    connection: Connection,
    user_name: str,
    password: str,
    roles: Iterable[str],
    *,
    demo: bool = False,
) -> str:
    """A new user; gives its id. Errors: `unknown_role`, `name_taken`, `weak_password`."""
    wanted = _checked(user_name, roles)
    if len(password) < 12:
        raise SecurityRefusal("weak_password", "A password has at least 12 characters.")
    user_id = random_id("usr")
    made = await connection.fetchval(
        """insert into security.person (user_id, user_name, password_hash, roles, demo)
           values ($1, $2, $3, $4, $5) on conflict (user_name) do nothing returning user_id""",
        user_id,
        user_name,
        hash_password(password),
        wanted,
        demo,
    )
    if made is None:
        raise SecurityRefusal("name_taken", f"There is a user {user_name!r} already.")
    return user_id


async def create_key(
    connection: Connection,
    name: str,
    roles: Iterable[str],
    *,
    holder: str | None = None,
    demo: bool = False,
) -> Token:
    """A new API key, whose secret is shown this once. `holder` is the user id of the person who
    holds it; None for a part of the system. Errors: `unknown_role`, `name_taken`, `unknown_user`.
    """
    wanted = _checked(name, roles)
    token = new_token("tsk")
    try:
        made = await connection.fetchval(
            """insert into security.api_key (key_id, name, secret_hash, roles, holder, demo)
               values ($1, $2, $3, $4, $5, $6) on conflict (name) do nothing returning key_id""",
            token.row_id,
            name,
            hash_secret(token),
            wanted,
            holder,
            demo,
        )
    except asyncpg.ForeignKeyViolationError:
        raise SecurityRefusal("unknown_user", "The holder of a key is an existing user.") from None
    if made is None:
        raise SecurityRefusal("name_taken", f"There is a key {name!r} already.")
    return token


async def revoke(connection: Connection, name: str) -> list[str]:
    """End the key, or the user with all sessions and held keys, of this name; gives the ids that
    ended. From then on no token of theirs is taken. Errors: `unknown_identity`.
    """
    ended = await connection.fetch(
        """with person as (
             update security.person set revoked_at = now()
              where user_name = $1 and revoked_at is null returning user_id),
           keys as (
             update security.api_key set revoked_at = now()
              where (name = $1 or holder in (select user_id from person)) and revoked_at is null
             returning key_id),
           sessions as (
             update security.session set revoked_at = now()
              where user_id in (select user_id from person) and revoked_at is null
             returning session_id)
           select user_id as id from person union all select key_id from keys
           union all select session_id from sessions""",
        name,
    )
    if not ended:
        raise SecurityRefusal("unknown_identity", f"There is no live user or key {name!r}.")
    return [row["id"] for row in ended]
