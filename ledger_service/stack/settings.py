"""What the local stack says for each setting, from the home's secrets and ports."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from ledger_service.contract import environment
from ledger_service.contract.brokers import Brokers
from ledger_service.stack import logins
from ledger_service.stack.errors import StackError
from ledger_service.stack.home import Home, key, password
from ledger_service.stack.postgres import SUPERUSER
from ledger_service.stack.services import GIVEN_BY_ADDRESS, GIVEN_WITH_KAFKA, Part

DATABASE = "tallystick"
PREFIX = "TALLYSTICK_"

QUIET = {
    "DO_NOT_TRACK": "1",
    "DAGSTER_DISABLE_TELEMETRY": "yes",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "PYTHONUNBUFFERED": "1",
}
"""For every process: nothing phones home, and logs appear when they are written."""

MARK = "TALLY_PART_OF"
"""Names the home in the environment of every part, and so of all that a part starts."""


def given(home: Home, server: str) -> str | None:
    """Address of a server that is run elsewhere; None where the local one is used."""
    file = home.secret_file(f"given_{server}")
    return file.read_text().strip() if file.exists() else None


def remember_given(home: Home) -> None:
    """Keep the addresses that the environment gives now, for services and later commands."""
    for server, name in GIVEN_BY_ADDRESS.items():
        home.secret_file(f"given_{server}").unlink(missing_ok=True)
        if address := os.environ.get(name):
            home.secret(f"given_{server}", lambda address=address: address)
    for name in GIVEN_WITH_KAFKA:
        home.secret_file(f"given_{name}").unlink(missing_ok=True)
        if given(home, "kafka") and (value := os.environ.get(PREFIX + name)):
            home.secret(f"given_{name}", lambda value=value: value)


def admin_url(home: Home) -> str:
    """The local PostgreSQL as its superuser."""
    return f"postgresql://{SUPERUSER}:{home.secret('postgres')}@{home.address('postgres')}/postgres"


def owner_url(home: Home) -> str:
    """The ledger's database as its owner."""
    elsewhere = given(home, "postgres")
    if elsewhere:
        return elsewhere
    return logins.with_credentials(
        admin_url(home), logins.OWNER, home.secret("database_owner"), DATABASE
    )


def login_passwords(home: Home) -> dict[str, str]:
    """The password of every role's login."""
    return {role: home.secret(f"database_{role}") for role in (*logins.ROLES, logins.MONITOR)}


def _given_with_kafka(home: Home, name: str) -> str:
    """What a Kafka elsewhere was given with, or the setting's default; empty where it has none."""
    return given(home, name) or environment.SETTINGS[PREFIX + name].default or ""


def brokers(home: Home, login: str) -> Brokers:
    """Kafka as the login of a part; without one where the Kafka that was given takes none."""
    elsewhere = given(home, "kafka")
    security = _given_with_kafka(home, "KAFKA_SECURITY") if elsewhere else "SASL_PLAINTEXT"
    return Brokers(
        elsewhere or home.address("kafka"),
        security,
        logins.kafka_login(login),
        home.secret(f"kafka_{login}"),
        ca=_given_with_kafka(home, "KAFKA_CA"),
    )


def given_brokers(home: Home) -> Brokers:
    """A Kafka that is run elsewhere, as the administrator whose login was given."""
    return Brokers(
        given(home, "kafka") or "",
        _given_with_kafka(home, "KAFKA_SECURITY"),
        _given_with_kafka(home, "KAFKA_USERNAME"),
        _given_with_kafka(home, "KAFKA_PASSWORD"),
        _given_with_kafka(home, "KAFKA_MECHANISM"),
        _given_with_kafka(home, "KAFKA_CA"),
    )


def api_key(home: Home, identity: str) -> str:
    """The API key of an identity. Errors: `no_api_key` before `tally identities provision`."""
    try:
        return home.secret_file(f"{identity}.key").read_text().strip()
    except FileNotFoundError:
        raise StackError(
            "no_api_key", f"This home has no API key of {identity!r} yet: run `tally up`."
        ) from None


def public_half(seed: str) -> str:
    """The public key of an Ed25519 seed, both in base64."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.from_private_bytes(base64.b64decode(seed))
    return base64.b64encode(private.public_key().public_bytes_raw()).decode()


def _database_url(home: Home, part: Part) -> str:
    role = part.role or "api"
    owner = owner_url(home)
    if role == "owner":
        return owner
    name = logins.login(logins.database_of(owner), role)
    return logins.with_credentials(owner, name, login_passwords(home)[role])


def _brokers(home: Home, part: Part) -> Brokers:
    return brokers(home, part.kafka or part.name)


def _health(home: Home, part: Part) -> str:
    return home.address(f"{part.name}.health")


_RESOLVERS: dict[str, Callable[[Home, Part], str]] = {
    "ENV": lambda _home, _part: os.environ.get("TALLYSTICK_ENV", "demo"),
    "DATABASE_URL": _database_url,
    "OWNER_DATABASE_URL": lambda home, _: owner_url(home),
    "KAFKA_BOOTSTRAP": lambda home, part: _brokers(home, part).bootstrap,
    "KAFKA_SECURITY": lambda home, part: _brokers(home, part).security,
    "KAFKA_USERNAME": lambda home, part: _brokers(home, part).username,
    "KAFKA_PASSWORD": lambda home, part: _brokers(home, part).password,
    "KAFKA_MECHANISM": lambda home, part: _brokers(home, part).mechanism,
    "KAFKA_CA": lambda home, part: _brokers(home, part).ca,
    "KAFKA_REPLICATION": lambda home, _: _given_with_kafka(home, "KAFKA_REPLICATION"),
    "TEMPORAL_ADDRESS": lambda home, _: given(home, "temporal") or home.address("temporal"),
    "API_URL": lambda home, _: f"http://{home.address('api')}",
    "API_KEY": lambda home, part: api_key(home, part.api_key or part.name),
    "CONSOLE_URL": lambda home, _: f"http://{home.address('console')}",
    "BANK_URL": lambda home, _: f"http://{home.address('bank')}",
    "DAGSTER_URL": lambda home, _: f"http://{home.address('dagster-webserver')}",
    "LISTEN": lambda home, part: home.address(part.name),
    "HEALTH_LISTEN": _health,
    "BANK_SECRET": lambda home, _: home.secret("bank", password),
    "DAGSTER_SECRET": lambda home, _: home.secret("dagster", password),
    "BI_PASSWORD": lambda home, _: home.secret("bi", password),
    "WRITER_SECRET": lambda home, _: home.secret("writer", password),
    "WEBHOOK_SECRET": lambda home, _: home.secret("webhook", key),
    "VAULT_KEY": lambda home, _: home.secret("vault_key", key),
    "TOKEN_KEY": lambda home, _: home.secret("token_key", key),
    "PAYLOAD_KEY": lambda home, _: home.secret("payload_key", key),
    "LOG_KEY": lambda home, _: home.secret("log_key", key),
    "LOG_PUBLIC_KEY": lambda home, _: public_half(home.secret("log_key", key)),
    "WITNESS_KEY": lambda home, _: home.secret("witness_key", key),
    "WITNESS_PUBLIC_KEY": lambda home, _: public_half(home.secret("witness_key", key)),
}


def of(home: Home, part: Part) -> dict[str, str]:
    """The settings of one part, in full names."""
    values = {PREFIX + name: _RESOLVERS[name](home, part) for name in part.settings}
    return {"TALLYSTICK_HOME": str(home.path), **values}


def process_environment(home: Home, part: Part) -> dict[str, str]:
    """The whole environment of a part: what is ours for it, and the caller's without secrets."""
    mine = of(home, part)
    secrets = {name for name, setting in environment.SETTINGS.items() if setting.secret}
    addresses = set(GIVEN_BY_ADDRESS.values())
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in secrets and name not in addresses
    }
    dagster = {"DAGSTER_HOME": str(home / "dagster")} if part.name.startswith("dagster") else {}
    # dbt and others are found by name, also where the caller has not entered the environment
    path = os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)])
    return {**inherited, **QUIET, **dagster, **mine, "PATH": path, MARK: str(home.path)}


def fill_in(part: Part, surroundings: Mapping[str, str]) -> dict[str, str]:
    """Settings that `part` needs, `surroundings` lack, and a home that is in use can give.

    A home that no stack was started in gives nothing, and is not made by asking. Of Kafka it gives
    all or nothing: its logins belong to its own brokers.
    """
    home = Home.current()
    if not (home / "supervisor").is_dir():
        return {}
    filled: dict[str, str] = {}
    other_kafka = "TALLYSTICK_KAFKA_BOOTSTRAP" in surroundings
    for name in part.settings:
        if PREFIX + name not in surroundings and not (other_kafka and name.startswith("KAFKA_")):
            try:
                filled[PREFIX + name] = _RESOLVERS[name](home, part)
            except StackError:
                continue  # the command itself says that the setting is missing
    return filled
