"""Every setting, in one table: name, default, meaning, and whether it is a secret.

Settings come from the environment and are read where a service starts. Nothing else in the project
reads `os.environ`. A required setting that is missing raises `MissingSetting`, which says what the
setting is for; `tally config check` reads this table.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Setting:
    """One environment variable."""

    name: str
    meaning: str
    default: str | None = None
    """None: required by the services that read it."""
    secret: bool = False


_TABLE = [
    Setting("TALLYSTICK_HOME", "Directory of all local state.", ".tallystick"),
    Setting(
        "TALLYSTICK_ENV",
        "demo, test or production; demo identities are refused outside demo.",
        "production",
    ),
    Setting("TALLYSTICK_DATABASE_URL", "PostgreSQL, as the role of this service.", secret=True),
    Setting(
        "TALLYSTICK_OWNER_DATABASE_URL", "PostgreSQL as the owner: migrations only.", secret=True
    ),
    Setting("TALLYSTICK_KAFKA_BOOTSTRAP", "Kafka brokers, host:port[,host:port]."),
    Setting(
        "TALLYSTICK_KAFKA_SECURITY",
        "SASL_SSL (login over TLS), SASL_PLAINTEXT (login only) or PLAINTEXT (neither).",
        "SASL_SSL",
    ),
    Setting("TALLYSTICK_KAFKA_USERNAME", "Login of this service at Kafka."),
    Setting("TALLYSTICK_KAFKA_PASSWORD", "Password of that login.", secret=True),
    Setting(
        "TALLYSTICK_KAFKA_MECHANISM", "SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN.", "SCRAM-SHA-512"
    ),
    Setting(
        "TALLYSTICK_KAFKA_CA",
        "PEM file of the authority behind the brokers' certificates; default: the machine's own.",
        "",
    ),
    Setting(
        "TALLYSTICK_KAFKA_REPLICATION",
        "Replicas of each topic the relay creates: 3 on a cluster.",
        "1",
    ),
    Setting("TALLYSTICK_TEMPORAL_ADDRESS", "Temporal frontend, host:port."),
    Setting("TALLYSTICK_TEMPORAL_NAMESPACE", "Temporal namespace.", "default"),
    Setting(
        "TALLYSTICK_PAYLOAD_KEY",
        "Key that encrypts what Temporal stores: 32 bytes in base64.",
        secret=True,
    ),
    Setting(
        "TALLYSTICK_REVERSAL_POLICY",
        "YAML file of the reversal policy; default: the one in the package.",
        "",
    ),
    Setting("TALLYSTICK_API_URL", "Base address of the ledger API."),
    Setting("TALLYSTICK_API_KEY", "Key with which this service calls the ledger API.", secret=True),
    Setting("TALLYSTICK_CONSOLE_URL", "Base address of the console, for links.", ""),
    Setting("TALLYSTICK_BANK_URL", "Base address of the partner bank.", ""),
    Setting(
        "TALLYSTICK_BANK_SECRET",
        "Secret that signs requests to and from the partner bank.",
        secret=True,
    ),
    Setting(
        "TALLYSTICK_DAGSTER_URL", "Address of Dagster's pages, behind the console's sign-in.", ""
    ),
    Setting(
        "TALLYSTICK_DAGSTER_SECRET",
        "Secret that the console shows to Dagster's pages.",
        secret=True,
    ),
    Setting("TALLYSTICK_BI_PASSWORD", "Password with which BI tools read the marts.", secret=True),
    Setting(
        "TALLYSTICK_WEBHOOK_URL",
        "Address that is told of failed runs and checks, lag and quarantine; none: nobody is.",
        "",
    ),
    Setting(
        "TALLYSTICK_WEBHOOK_SECRET",
        "Key that signs what is told: 32 bytes in base64.",
        secret=True,
    ),
    Setting("TALLYSTICK_LISTEN", "host:port that this service listens on.", "127.0.0.1:0"),
    Setting(
        "TALLYSTICK_HEALTH_LISTEN",
        "host:port of /livez and /readyz of a service without HTTP of its own.",
        "127.0.0.1:0",
    ),
    Setting("TALLYSTICK_WRITER_SECRET", "Secret that API nodes show to the writer.", secret=True),
    Setting(
        "TALLYSTICK_VAULT_KEY", "Key of keys of the party vault: 32 bytes in base64.", secret=True
    ),
    Setting(
        "TALLYSTICK_TOKEN_KEY",
        "Key of keyed hashes (tokens, blind indexes): 32 bytes in base64.",
        secret=True,
    ),
    Setting(
        "TALLYSTICK_LOG_KEY",
        "Ed25519 key that signs checkpoints: 32-byte seed in base64.",
        secret=True,
    ),
    Setting("TALLYSTICK_LOG_PUBLIC_KEY", "The public half of TALLYSTICK_LOG_KEY, in base64.", ""),
    Setting(
        "TALLYSTICK_WITNESS_KEY", "Ed25519 key of the witness: 32-byte seed in base64.", secret=True
    ),
    Setting(
        "TALLYSTICK_WITNESS_PUBLIC_KEY", "The public half of TALLYSTICK_WITNESS_KEY, in base64.", ""
    ),
    Setting(
        "TALLYSTICK_LOG_ORIGIN", "First part of every checkpoint's origin line.", "tallystick.local"
    ),
    Setting(
        "TALLYSTICK_LANDING",
        "Directory of the landing, or s3://bucket/prefix; default landing/ in the home.",
        "",
    ),
    Setting(
        "TALLYSTICK_LANDING_ARCHIVE",
        "Directory or s3://bucket/prefix that `tally pipeline archive` moves old raw files to.",
        "",
    ),
    Setting(
        "TALLYSTICK_WAREHOUSE", "Directory of the warehouse; default warehouse/ in the home.", ""
    ),
    Setting(
        "TALLYSTICK_SNAPSHOTS",
        "Directory of published snapshots; default snapshots/ in the home.",
        "",
    ),
    Setting("TALLYSTICK_REPORTS", "Directory of reports; default reports/ in the home.", ""),
    Setting(
        "TALLYSTICK_FAILPOINTS",
        "Places at which a test kills this service; refused unless TALLYSTICK_ENV is demo or test.",
        "",
    ),
    Setting("TALLYSTICK_LOG_LEVEL", "debug, info, warning or error.", "info"),
]
SETTINGS: dict[str, Setting] = {setting.name: setting for setting in _TABLE}


class MissingSetting(LookupError):
    """A service needs a setting that the environment does not give."""


def read(name: str) -> str:
    """The value of a setting, or its default. Errors: `MissingSetting`; KeyError for an unlisted name."""
    setting = SETTINGS[name]
    value = os.environ.get(name, setting.default)
    if value is None:
        raise MissingSetting(f"Set {name}: {setting.meaning}")
    return value


def home() -> Path:
    """The directory of all local state, absolute."""
    return Path(read("TALLYSTICK_HOME")).expanduser().resolve()


def directory(name: str, default: str) -> Path:
    """The directory a setting names, or `default` in the home; it may not exist yet."""
    value = read(name)
    return Path(value).expanduser().resolve() if value else home() / default


def place(name: str, default: str) -> str:
    """Like `directory`, but a setting that names a place by address (`s3://…`) stays as it is."""
    value = read(name)
    return value if "://" in value else str(directory(name, default))


def host_and_port(name: str) -> tuple[str, int]:
    """A `host:port` setting, split. Errors: ValueError that names the setting."""
    host, _, port = read(name).rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{name} must be host:port, e.g. 127.0.0.1:8080")
    return host, int(port)
