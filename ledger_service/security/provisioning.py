"""Demo identities: a user for every role and the keys of the local services, random per home.

They are marked in the database and taken only where TALLYSTICK_ENV says demo. Their secrets are in
the home's secrets/ folder: `identities.json` with everything, and `<key>.key` for each service.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import TypedDict

from ledger_service.security import audit
from ledger_service.security.credentials import (
    hash_password,
    hash_secret,
    parse_token,
    password_matches,
)
from ledger_service.security.identities import Connection, create_key, create_user

USERS: dict[str, list[str]] = {
    # Olivia may approve, too: only not what she asked for herself.
    "olivia": ["operator", "approver"],
    "adam": ["approver"],
    "ana": ["analyst"],
    "carol": ["compliance"],
    "aud": ["auditor"],
    "root_admin": ["administrator"],
}
KEYS = {
    "integrator": "integrator",
    "worker": "service",
    "pipelines": "service",
    "monitor": "service",
    "bank": "service",
    "witness": "service",
}
_FILE = "identities.json"


class User(TypedDict):
    """A user of the demo."""

    roles: list[str]
    password: str


class Key(TypedDict):
    """An API key of the demo."""

    role: str
    token: str


class Identities(TypedDict):
    """Everybody of one home."""

    users: dict[str, User]
    keys: dict[str, Key]


def read(folder: Path) -> Identities:
    """The identities kept in `folder`; nobody where none were made yet."""
    try:
        return json.loads((folder / _FILE).read_text())
    except FileNotFoundError:
        return {"users": {}, "keys": {}}


def write_secret(path: Path, content: bytes) -> None:
    """Replace a file that only its owner may read, at no moment readable by others."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    draft.touch(mode=0o600, exist_ok=False)
    draft.write_bytes(content)
    draft.replace(path)


async def provision(connection: Connection, kept: Identities, folder: Path) -> Identities:
    """Make who is missing, in the caller's transaction; the secrets are on disk before it commits.

    Safe to call again, and after the database or the folder was lost: what one of them still knows
    is kept, and a demo identity whose secret is gone gets a new one.
    """
    made: Identities = {
        "users": {
            name: kept["users"].get(name) or {"roles": roles, "password": secrets.token_urlsafe(12)}
            for name, roles in USERS.items()
        },
        "keys": {},
    }
    for name, user in made["users"].items():
        await _keep_user(connection, name, user)
    for name, role in KEYS.items():
        made["keys"][name] = await _keep_key(connection, name, role, kept["keys"].get(name))
    write_secret(folder / _FILE, json.dumps(made, indent=2).encode())
    for name, key in made["keys"].items():
        write_secret(folder / f"{name}.key", key["token"].encode())
    return made


async def _keep_user(connection: Connection, name: str, user: User) -> None:
    row = await connection.fetchrow(
        "select user_id, demo, password_hash from security.person where user_name = $1", name
    )
    if row is None:
        user_id = await create_user(connection, name, user["password"], user["roles"], demo=True)
    elif not row["demo"] or password_matches(row["password_hash"], user["password"]):
        return
    else:
        user_id = row["user_id"]
        await connection.execute(
            "update security.person set password_hash = $2, revoked_at = null where user_id = $1",
            user_id,
            hash_password(user["password"]),
        )
    await audit.record(connection, actor="command_line", action="user.provisioned", subject=user_id)


async def _keep_key(connection: Connection, name: str, role: str, kept: Key | None) -> Key:
    """The key of this name as the database knows it; a new one where its token is lost."""
    token = parse_token(kept["token"]) if kept else None
    row = await connection.fetchrow(
        "select key_id, secret_hash from security.api_key where name = $1 and revoked_at is null",
        name,
    )
    if kept and token and row and bytes(row["secret_hash"]) == hash_secret(token):
        return kept
    if row is not None:
        # A name is unique for ever; a lost key stays on record under a name that says so.
        await connection.execute(
            """update security.api_key set revoked_at = now(), name = name || '/' || key_id
                where key_id = $1""",
            row["key_id"],
        )
    fresh = await create_key(connection, name, [role], demo=True)
    await audit.record(
        connection, actor="command_line", action="key.provisioned", subject=fresh.row_id
    )
    return {"role": role, "token": fresh.text}
