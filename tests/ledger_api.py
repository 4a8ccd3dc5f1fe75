"""The ledger API in the test's own process, on a real database, with identities of every role."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest

from ledger_service.api.app import create_app
from ledger_service.contract.permissions import ROLES
from ledger_service.security import identities
from tests.servers import LedgerDatabase

PASSWORD = "correct horse battery staple"
KEYS = {
    "TALLYSTICK_TOKEN_KEY": base64.b64encode(b"t" * 32).decode(),
    "TALLYSTICK_WRITER_SECRET": "writer secret of the tests",
    "TALLYSTICK_VAULT_KEY": base64.b64encode(b"v" * 32).decode(),
}


@dataclasses.dataclass
class Api:
    """A running API. `keys` holds an API key's token per role."""

    http: httpx.AsyncClient
    pool: asyncpg.Pool
    owner: asyncpg.Connection
    keys: dict[str, str]
    users: dict[str, str] = dataclasses.field(default_factory=dict)
    """User id by name, of those who signed in; a user's name is the role."""

    async def call(self, role: str, method: str, path: str, **options) -> httpx.Response:
        """One request with the key of `role`; "" for none."""
        headers = {"Authorization": f"Bearer {self.keys[role]}"} if role else {}
        return await self.http.request(
            method, path, headers={**headers, **options.pop("headers", {})}, **options
        )

    async def sign_in(self, user_name: str) -> dict[str, str]:
        """Headers of a fresh session of a user, who is made at the first time."""
        if user_name not in self.users:
            self.users[user_name] = await identities.create_user(
                self.owner, user_name, PASSWORD, [user_name]
            )
        answer = await self.http.post(
            "/v1/sessions", json={"username": user_name, "password": PASSWORD}
        )
        assert answer.status_code == 201, answer.text
        return {"Authorization": f"Bearer {answer.json()['token']}"}


@contextlib.asynccontextmanager
async def serving(
    database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch, **settings: str
) -> AsyncIterator[Api]:
    """Start the API as the role `api`; make a key and a user of each role."""
    for name, value in {
        **KEYS,
        "TALLYSTICK_DATABASE_URL": database.url("api"),
        "TALLYSTICK_ENV": "production",
        **settings,
    }.items():
        monkeypatch.setenv(name, value)
    app = create_app()
    owner = await asyncpg.connect(database.owner_url)
    try:
        async with app.router.lifespan_context(app):
            pool = app.state.pool
            keys = {role: (await identities.create_key(pool, role, [role])).text for role in ROLES}
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
                yield Api(http, pool, owner, keys)
    finally:
        await owner.close()
