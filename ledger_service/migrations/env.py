"""Alembic's environment: one connection, as the owner, one transaction a step."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, pool

url = context.config.attributes["url"]
engine = create_engine(url, poolclass=pool.NullPool, isolation_level="READ COMMITTED")

with engine.connect() as connection:
    context.configure(
        connection=connection, transaction_per_migration=True, version_table="ledger_migrations"
    )
    with context.begin_transaction():
        context.run_migrations()
