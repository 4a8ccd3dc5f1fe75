"""Statements of partner banks: accounts, days, lines."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute("select 1")
