"""Alembic's environment: one connection, as the login that owns schema `monitoring`."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, pool, text

SCHEMA = "monitoring"

engine = create_engine(context.config.attributes["url"], poolclass=pool.NullPool)

with engine.connect() as connection:
    # `create schema if not exists` asks for the right to create even where the schema is there.
    if connection.scalar(text("select to_regnamespace(:name) is null"), {"name": SCHEMA}):
        connection.execute(text(f"create schema {SCHEMA}"))
    connection.commit()  # the question itself began a transaction, which would be rolled back
    context.configure(
        connection=connection,
        transaction_per_migration=True,
        version_table="migrations",
        version_table_schema=SCHEMA,
    )
    with context.begin_transaction():
        context.run_migrations()
