"""The role in which the verifier makes drifted projections anew, and in no other way writes them."""

from alembic import op

revision = "0015"
down_revision = "0014"

ROLE = """
do $$ begin
  create role tallystick_rebuilder nologin;
exception when duplicate_object then null;
end $$
"""

# What only readers use. Nothing by which the writer decides, and never the journal.
_READERS = (
    "ledger.posting_list, ledger.recorded_day, ledger.day_delta, ledger.value_dated_entry, "
    "ledger.transaction, ledger.transaction_metadata"
)


def upgrade() -> None:
    op.execute(ROLE)
    op.execute("grant usage on schema ledger to tallystick_rebuilder")
    op.execute(f"grant select, insert, delete on {_READERS} to tallystick_rebuilder")
    op.execute(
        "grant select on ledger.journal, ledger.account, ledger.head, ledger.projection "
        "to tallystick_rebuilder"
    )
    # To hold whoever moves the tables, and to turn a position back.
    op.execute("grant update (seq) on ledger.projection to tallystick_rebuilder")
    # Without inheriting: the verifier's own sessions still can't write any of it.
    op.execute("grant tallystick_rebuilder to tallystick_verifier with inherit false, set true")
