"""A console over a House and a stand-in of the ledger API, served over real HTTP."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec
import uvicorn
from fastapi import FastAPI
from psycopg_pool import ConnectionPool

from ledger_service.stack.home import free_port
from monitoring.alerts.intake import take_in
from monitoring.console.access import SESSION_COOKIE, form_token
from monitoring.console.app import Settings, create_app
from monitoring.database import Connection, open_pool
from monitoring.marts import Marts
from monitoring.proofs import Keys
from tests.monitoring_house import House
from tests.monitoring_ledger import PASSWORD, StandIn
from tests.monitoring_ledger import serving as serving_ledger

NOW = dt.datetime(2026, 8, 15, 9, 0, tzinfo=dt.UTC)


class Console(NamedTuple):
    """A running console. `url` is its address."""

    url: str
    house: House
    ledger: StandIn
    pool: ConnectionPool[Connection]
    marts: Marts
    app: FastAPI

    def give_dagster(self, url: str) -> None:
        """Let the console's proxy lead to `url`."""
        state = self.app.state
        state.settings = msgspec.structs.replace(state.settings, dagster_url=url)

    def browser(self, user: str) -> httpx.Client:
        """An HTTP client that is signed in as `user`; its cookies are the browser's."""
        client = httpx.Client(base_url=self.url, follow_redirects=False, timeout=20)
        client.get("/sign-in")
        secret = client.cookies["tallystick_sign_in"]
        form = {"username": user, "password": PASSWORD, "csrf": form_token(secret)}
        assert client.post("/sign-in", data=form).status_code == 303
        return client

    def csrf(self, client: httpx.Client) -> str:
        """What a form of this client's session carries."""
        return form_token(client.cookies[SESSION_COOKIE])

    def intake(self) -> None:
        """Turn what is published into alerts."""
        with self.pool.connection() as connection:
            take_in(connection, self.marts, NOW)


@contextlib.contextmanager
def running(database_url: str, folder: Path) -> Iterator[Console]:
    """A console with three alerts, two breaks and a day's report."""
    house = House(folder / "snapshots")
    house.publish()
    ledger = StandIn(house)
    report = folder / "reports" / "fbo" / "simulated" / "2026-08-14.csv"
    report.parent.mkdir(parents=True)
    report.write_text("day,difference\n")
    for site in ("data_docs", "restricted_data_docs"):
        (folder / "warehouse" / site).mkdir(parents=True)
        (folder / "warehouse" / site / "index.html").write_text("<p>Data Docs</p>")
    keys = Keys(ledger.public(ledger.log_key), ledger.public(ledger.witness_key))
    with (
        serving_ledger(ledger) as api_url,
        over(api_url, keys, database_url, folder) as (app, url),
    ):
        console = Console(url, house, ledger, app.state.pool, Marts(folder / "snapshots"), app)
        console.intake()
        yield console


@contextlib.contextmanager
def over(
    api_url: str, keys: Keys, database_url: str, folder: Path
) -> Iterator[tuple[FastAPI, str]]:
    """A console over the API at `api_url`; what pipelines would write is in `folder`."""
    with open_pool(database_url, size=6) as pool:
        settings = Settings(
            api_url=api_url,
            snapshots=folder / "snapshots",
            reports=folder / "reports",
            warehouse=folder / "warehouse",
            dagster_url="",
            dagster_secret="from the console",
            keys=keys,
            secure_cookies=False,
        )
        app = create_app(settings, pool)
        with _served(app) as url:
            yield app, url


@contextlib.contextmanager
def _served(app: FastAPI) -> Iterator[str]:
    port = free_port()
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        app.state.draining = True
        server.should_exit = True
        thread.join(10)
