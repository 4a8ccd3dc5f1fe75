"""Holds with what is left of them, what is pending on accounts, and the books' closed periods."""

from alembic import op

revision = "0012"
down_revision = "0010"

TABLES = """
alter table ledger.balance
  add pending_debits numeric(38, 0) not null default 0,
  add pending_credits numeric(38, 0) not null default 0;

alter table ledger.verified_balance
  add pending_debits numeric(38, 0) not null default 0,
  add pending_credits numeric(38, 0) not null default 0;

-- numbers and amounts name the legs in the order of the event's entries, debits positive: what is
-- left of each. version is the seq of the last event that changed it.
create table ledger.hold (
  ledger text collate "C" not null,
  seq bigint not null,
  state text not null check (state in ('open', 'captured', 'voided', 'expired')),
  version bigint not null,
  expires_at timestamptz,
  numbers bigint[] not null,
  amounts bigint[] not null,
  primary key (ledger, seq)
) with (fillfactor = 70);

create index hold_due on ledger.hold (ledger, expires_at)
  where state = 'open' and expires_at is not null;
create index hold_of_account on ledger.hold using gin (numbers) where state = 'open';

create table ledger.capture (
  ledger text collate "C" not null,
  hold bigint not null,
  seq bigint not null,
  primary key (ledger, hold, seq)
);

-- One row per event that closed, reopened or attested.
create table ledger.period (
  ledger text collate "C" not null,
  seq bigint not null,
  event_type text not null,
  day date not null,
  primary key (ledger, seq)
);
"""


def upgrade() -> None:
    """Add the tables; the writer inserts, and updates what is left of a hold."""
    op.execute(TABLES)
    op.execute(
        "grant select, insert on ledger.hold, ledger.capture, ledger.period to tallystick_writer"
    )
    op.execute("grant update on ledger.hold to tallystick_writer")
    op.execute("grant select on ledger.hold, ledger.capture, ledger.period to tallystick_api")
