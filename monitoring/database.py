"""Connections to PostgreSQL, schema `monitoring`."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool

Connection = psycopg.Connection[DictRow]


def open_pool(url: str, *, size: int = 4) -> ConnectionPool[Connection]:
    """A pool whose connections give rows as dicts. It connects in the background: a database that
    is away makes requests wait and fail with `psycopg_pool.PoolTimeout`, not the start.
    """
    options: dict[str, Any] = {
        "row_factory": dict_row,
        "autocommit": False,
        # Nothing here takes long; what hangs must not hold the intake's lock.
        "options": "-c search_path=monitoring -c statement_timeout=30s -c timezone=UTC",
    }
    return ConnectionPool(url, kwargs=options, min_size=1, max_size=size, timeout=5, open=True)
