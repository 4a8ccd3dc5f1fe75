"""Day sums by the day on which they were recorded: what a question of the whole ledger takes off."""

from alembic import op

revision = "0018"
down_revision = "0019"


def upgrade() -> None:
    # Rows come in the order of these days, so a few bytes for many pages find them. A block of pages
    # is summed up as it fills: until then it is read, and it is the newest.
    op.execute(
        "create index day_delta_recorded_date on ledger.day_delta "
        "using brin (recorded_date) with (autosummarize = on)"
    )
