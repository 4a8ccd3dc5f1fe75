"""Statements of partner banks: accounts, files, days; lines are in the `statements` stream."""

from alembic import op

revision = "0005"
down_revision = "0004"

TABLES = """
create schema statement;

-- statement_account is a keyed token of the bank's account number, which is kept nowhere in clear.
create table statement.account (
  statement_account text collate "C" primary key,
  bank text not null,
  ledger text collate "C" not null,
  account text collate "C" not null,
  purpose text not null check (purpose in ('fbo', 'operating', 'stated_balance')),
  rounded_half_minor_per_entry integer not null check (rounded_half_minor_per_entry in (0, 1)),
  registered_at timestamptz not null default now()
);

-- One row per file ever taken, by the hash of its bytes; the bytes are in the vault under file_id.
create table statement.file (
  file_hash bytea primary key check (length(file_hash) = 32),
  file_id text not null unique,
  bank text not null,
  format text not null,
  statements integer not null,
  received_at timestamptz not null default now()
);

-- One row per imported statement; content_hash finds the same day sent again in another file.
create table statement.statement (
  statement text primary key,
  file_hash bytea not null references statement.file,
  position integer not null,
  statement_account text collate "C" not null references statement.account,
  statement_date date not null,
  content_hash bytea not null unique,
  line_count integer not null,
  imported_at timestamptz not null default now(),
  unique (file_hash, position)
);
create index statement_of_account on statement.statement (statement_account, statement_date);

-- Why a statement of a file was not imported; settled once statement.statement has its position.
create table statement.quarantine (
  file_hash bytea not null references statement.file,
  position integer not null,
  reason text not null,
  detail text not null,
  quarantined_at timestamptz not null default now(),
  primary key (file_hash, position, reason)
);
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    op.execute("grant usage on schema statement to tallystick_api")
    op.execute(
        "grant select, insert on statement.account, statement.file, statement.statement, "
        "statement.quarantine to tallystick_api"
    )
