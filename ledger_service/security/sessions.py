"""Sign-in by user name and password, and the sessions it opens.

A try is counted before the password is looked at, in a transaction of its own: many tries at once
are all counted, and a crash does not give one for free. From the fifth failure in a row a user name
is locked: for 15 s, and twice as long with each further one, at most a quarter of an hour. Whether
such a user exists makes no difference.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import asyncpg

from ledger_service.security import audit
from ledger_service.security.credentials import (
    hash_secret,
    hash_user_name,
    new_token,
    password_matches,
)
from ledger_service.security.errors import SecurityRefusal
from ledger_service.security.identities import Connection, refuse_demo

LIFETIME = dt.timedelta(hours=12)
FREE_FAILURES = 4
LONGEST_LOCK_SECONDS = 900

_COUNT = """
insert into security.sign_in_attempts as a (user_name_digest, failures, attempted_at)
values ($1, 1, clock_timestamp())
on conflict (user_name_digest) do update
   set failures = a.failures + 1, attempted_at = clock_timestamp(),
       locked_until = case when a.failures >= $2 then clock_timestamp()
         + make_interval(secs => least($3, 15 * power(2, least(a.failures - $2, 20)))) end
 where a.locked_until is null or a.locked_until <= clock_timestamp()
returning failures
"""
_ARGON2 = ThreadPoolExecutor(2, "argon2")
"""Argon2 takes a core for a while; more at once would let sign-ins starve the API."""


class Session(NamedTuple):
    """A session just opened; `token` is shown this once."""

    token: str
    user_id: str
    roles: list[str]
    expires_at: dt.datetime


async def sign_in(pool: asyncpg.Pool, user_name: str, password: str) -> Session:
    """Open a session. Errors: `bad_credentials`, `sign_in_locked`, `demo_identity_refused`."""
    digest = hash_user_name(user_name)
    async with pool.acquire() as connection:
        failures = await _count_try(connection, digest)
        person = await connection.fetchrow(
            """select user_id, password_hash, roles, demo from security.person
                where user_name = $1 and revoked_at is null""",
            user_name,
        )
    stored = person["password_hash"] if person else None
    matches = await asyncio.get_running_loop().run_in_executor(
        _ARGON2, password_matches, stored, password
    )
    async with pool.acquire() as connection, connection.transaction():
        if person is None or not matches:
            if person is not None:
                await audit.record(
                    connection,
                    actor=person["user_id"],
                    action="session.opened",
                    subject=person["user_id"],
                    outcome="refused",
                    details={"failures_in_a_row": failures},
                )
        else:
            refuse_demo(person["demo"])
            return await _open(connection, digest, person)
    raise SecurityRefusal("bad_credentials", "User name or password is wrong.")


async def _count_try(connection: Connection, digest: bytes) -> int:
    await connection.execute(
        """delete from security.sign_in_attempts
            where attempted_at < clock_timestamp() - interval '1 day'"""
    )
    failures = await connection.fetchval(_COUNT, digest, FREE_FAILURES, LONGEST_LOCK_SECONDS)
    if failures is None:
        wait = await connection.fetchval(
            """select ceil(extract(epoch from locked_until - clock_timestamp()))::int
                 from security.sign_in_attempts where user_name_digest = $1""",
            digest,
        )
        wait = max(1, wait or 1)
        raise SecurityRefusal(
            "sign_in_locked",
            f"Too many failed sign-ins for this user name; try again in {wait} s.",
            retry_after=wait,
        )
    return int(failures)


async def _open(connection: Connection, digest: bytes, person: asyncpg.Record) -> Session:
    token = new_token("tss")
    expires_at: Any = await connection.fetchval(
        """insert into security.session (session_id, user_id, secret_hash, expires_at)
           values ($1, $2, $3, clock_timestamp() + $4) returning expires_at""",
        token.row_id,
        person["user_id"],
        hash_secret(token),
        LIFETIME,
    )
    await connection.execute(
        "delete from security.sign_in_attempts where user_name_digest = $1", digest
    )
    await audit.record(
        connection, actor=person["user_id"], action="session.opened", subject=token.row_id
    )
    return Session(token.text, person["user_id"], list(person["roles"]), expires_at)


async def sign_out(connection: Connection, session_id: str, actor: str) -> None:
    """End a session at once. Safe to call again."""
    async with connection.transaction():
        ended = await connection.fetchval(
            """update security.session set revoked_at = now()
                where session_id = $1 and revoked_at is null returning session_id""",
            session_id,
        )
        if ended is not None:
            await audit.record(connection, actor=actor, action="session.closed", subject=session_id)
