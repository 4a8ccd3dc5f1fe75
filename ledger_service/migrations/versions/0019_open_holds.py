"""Open holds in the order in which they are listed, however many have ended."""

from alembic import op

revision = "0019"
down_revision = "0016"


def upgrade() -> None:
    """Add the index: a hold pays for it when it is placed, none when it changes."""
    op.execute("create index hold_open on ledger.hold (ledger, seq) where state = 'open'")
