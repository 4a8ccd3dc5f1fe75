"""Names and addresses of logins: the database's, one per role, and Kafka's, one per part.

Making them is the part of `database` and of `kafka.rights`.
"""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

ROLES = ("writer", "api", "relay", "worker", "verifier")
MONITOR = "monitor"
OWNER = "tallystick_owner"


def login(database: str, role: str) -> str:
    """Name of the login of `role` in `database`; logins belong to the whole server."""
    return f"{database}_{role}_login"


def kafka_login(part: str) -> str:
    """Name of the login of a part at Kafka; logins belong to the whole cluster."""
    return f"tallystick-{part}"


def with_credentials(url: str, user: str, password: str, database: str | None = None) -> str:
    """`url` with another user, password and, if given, database."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    path = f"/{database}" if database else parts.path
    return urlunsplit((parts.scheme, f"{user}:{password}@{place}", path, parts.query, ""))


def database_of(url: str) -> str:
    """The database that `url` names."""
    return urlsplit(url).path.lstrip("/")
