"""What a session must promise before the ledger acknowledges anything on it.

`synchronous_commit` may be weakened by a server, a database, a role or an address; what a session
asks for as it starts goes before all of these. And a commit that waits for a standby can be cancelled:
PostgreSQL then reports success, with a warning, for what is durable on one machine only. Such a
commit must not be acknowledged (PostgreSQL's documentation, "Synchronous Replication").
"""

from __future__ import annotations

from typing import Any

import asyncpg

SESSION = {"synchronous_commit": "on"}
"""Settings of every session on which something is acknowledged: a commit waits until it is on disk,
and on the standby's disk where there is one."""
DATABASE_GONE: tuple[type[Exception], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TargetServerAttributeNotMatched,
    ConnectionError,
    TimeoutError,
)
"""What a database raises that does not answer, starts or stops, has no room left, or is a standby."""
_CUT_SHORT = "canceling wait for synchronous replication"


class NotReplicatedError(RuntimeError):
    """A commit is durable here, and perhaps not on the standby."""


class ReplicationWatch:
    """Hears when a commit of one connection did not wait for the standby to the end."""

    def __init__(self, connection: Any) -> None:
        self._cut_short = False
        connection.add_log_listener(self._hear)

    def check(self) -> None:
        """Errors: `NotReplicatedError` where a commit was cut short."""
        if self._cut_short:
            raise NotReplicatedError("a commit was not confirmed by the standby")

    def _hear(self, _connection: Any, message: Any) -> None:
        self._cut_short = self._cut_short or _CUT_SHORT in (message.message or "")
