"""The service `console`: the web console on TALLYSTICK_LISTEN."""

from __future__ import annotations

import uvicorn

from ledger_service.contract import environment, logs
from ledger_service.contract.service import stop_on_signals
from monitoring.console.app import Settings, create_app
from monitoring.database import open_pool
from monitoring.proofs import Keys, public_key


def settings_from_environment() -> Settings:
    """The settings. Errors: `MissingSetting`, `ProofError` for a public key that is none."""
    return Settings(
        api_url=environment.read("TALLYSTICK_API_URL"),
        snapshots=environment.directory("TALLYSTICK_SNAPSHOTS", "snapshots"),
        reports=environment.directory("TALLYSTICK_REPORTS", "reports"),
        warehouse=environment.directory("TALLYSTICK_WAREHOUSE", "warehouse"),
        dagster_url=environment.read("TALLYSTICK_DAGSTER_URL").rstrip("/"),
        dagster_secret=environment.read("TALLYSTICK_DAGSTER_SECRET")
        if environment.read("TALLYSTICK_DAGSTER_URL")
        else "",
        keys=Keys(
            log=public_key(environment.read("TALLYSTICK_LOG_PUBLIC_KEY")),
            witness=public_key(environment.read("TALLYSTICK_WITNESS_PUBLIC_KEY")),
        ),
        secure_cookies=environment.read("TALLYSTICK_CONSOLE_URL").startswith("https://"),
    )


class _Server(uvicorn.Server):
    """Tells open event streams to end, so that a stop does not wait for them."""

    async def shutdown(self, sockets: list | None = None) -> None:
        self.config.app.state.draining = True  # type: ignore[union-attr]
        await super().shutdown(sockets)


def main() -> None:
    """Serve until SIGTERM; requests under way are finished."""
    logs.configure("console", environment.read("TALLYSTICK_LOG_LEVEL"))
    # Uvicorn drains on a signal and then raises it again: ours lets the process end with 0.
    stop_on_signals()
    host, port = environment.host_and_port("TALLYSTICK_LISTEN")
    settings = settings_from_environment()
    with open_pool(environment.read("TALLYSTICK_DATABASE_URL"), size=8) as pool:
        config = uvicorn.Config(
            create_app(settings, pool),
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=10,
        )
        _Server(config).run()
