"""What a ledger declares of its own, and the links to what accrued interest."""

from alembic import op

revision = "0014"
down_revision = "0013"

TABLES = """
-- One row per event that declared a currency or a posting rule, or withdrew one.
create table ledger.declaration (
  ledger text collate "C" not null,
  seq bigint not null,
  event_type text not null,
  name text collate "C" not null,
  primary key (ledger, seq)
);

-- The transactions that accrued or capitalized the interest of an account by a rule; the last one
-- says what has accrued.
create table ledger.accrual (
  ledger text collate "C" not null,
  rule text collate "C" not null,
  number bigint not null,
  seq bigint not null,
  primary key (ledger, rule, number, seq)
);
create index accrual_of_account on ledger.accrual (ledger, number, rule, seq)
"""


def upgrade() -> None:
    """Add the tables; the writer inserts, nobody changes a row."""
    op.execute(TABLES)
    op.execute("grant select, insert on ledger.declaration, ledger.accrual to tallystick_writer")
    op.execute("grant select on ledger.declaration, ledger.accrual to tallystick_api")
