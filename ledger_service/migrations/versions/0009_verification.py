"""Verification: what was verified, ledgers that were stopped, and the verifier's own role."""

from alembic import op

revision = "0009"
down_revision = "0007"

ROLE = """
do $$ begin
  create role tallystick_verifier nologin;
exception when duplicate_object then null;
end $$
"""

TABLES = """
-- Up to where a ledger was found sound, and the tree's root there.
create table ledger.verified (
  ledger text collate "C" primary key,
  seq bigint not null,
  root bytea not null check (length(root) = 32),
  verified_at timestamptz not null default now()
);

-- Balances as the verifier folded them, up to the seq in ledger.verified: new entries are added to
-- these, not to what the writer stored, so a balance that was changed in between is found.
create table ledger.verified_balance (
  ledger text collate "C" not null,
  number bigint not null,
  debits numeric(38, 0) not null,
  credits numeric(38, 0) not null,
  version bigint not null,
  primary key (ledger, number)
) with (fillfactor = 70);

-- A ledger with an open row takes no commit. Closed by two people (P12), never deleted.
create table ledger.stop (
  number bigint generated always as identity primary key,
  ledger text collate "C" not null,
  stopped_at timestamptz not null default clock_timestamp(),
  found_in text not null,
  code text not null,
  seq bigint,
  message text not null,
  resumed_at timestamptz,
  approval_id text references security.approval,
  constraint resumption_is_whole check ((resumed_at is null) = (approval_id is null))
);
create unique index one_open_stop on ledger.stop (ledger) where resumed_at is null;
comment on column ledger.stop.found_in is 'the table in which the violation was found'
"""

FUNCTIONS = """
-- The epoch is part of the writer's head-advancing commit: raising it fences the writer, which then
-- takes over anew, and finds the row here before it loads anything. A commit under way comes first.
create function ledger.stop_ledger(
  stopped text, found_in text, code text, seq bigint, message text)
returns bigint language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  made bigint;
begin
  update ledger.head h set epoch = h.epoch + 1 where h.ledger = stopped;
  insert into ledger.stop (ledger, found_in, code, seq, message)
  values (stopped, stop_ledger.found_in, stop_ledger.code, stop_ledger.seq, stop_ledger.message)
  on conflict (ledger) where resumed_at is null do nothing
  returning number into made;
  return made;
end $$;

create function ledger.resume_ledger(stop bigint, approval text, digest text)
returns boolean language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  if not security.consume_approval(approval, digest, 'ledger.stop', stop) then
    return false;
  end if;
  update ledger.stop s set resumed_at = clock_timestamp(), approval_id = approval
   where s.number = stop and s.resumed_at is null;
  if not found then
    raise exception 'stop % is not open', stop using errcode = 'integrity_constraint_violation';
  end if;
  return true;
end $$;

revoke execute on function ledger.stop_ledger, ledger.resume_ledger from public
"""

SCHEMAS = ("ledger", "stream", "security", "vault", "payments", "statement")
SECRETS = {"security.person": "password_hash", "security.api_key": "secret_hash"}


def _readable(table: str, hidden: str) -> str:
    """A grant on every column but one, which verification has no use for."""
    return f"""
    do $$ declare columns text; begin
      select string_agg(quote_ident(attname), ', ') into columns from pg_attribute
       where attrelid = '{table}'::regclass and attnum > 0 and not attisdropped
         and attname <> '{hidden}';
      execute 'revoke select on {table} from tallystick_verifier';
      execute format('grant select (%s) on {table} to tallystick_verifier', columns);
    end $$
    """


def upgrade() -> None:
    op.execute(ROLE)
    op.execute(TABLES)
    op.execute(FUNCTIONS)
    for schema in SCHEMAS:
        op.execute(f"grant usage on schema {schema} to tallystick_verifier")
        op.execute(f"grant select on all tables in schema {schema} to tallystick_verifier")
        op.execute(
            f"alter default privileges in schema {schema} grant select on tables to tallystick_verifier"
        )
    for table, hidden in SECRETS.items():
        op.execute(_readable(table, hidden))
    op.execute("grant select on ledger_migrations to tallystick_verifier")
    op.execute(
        "grant insert, update on ledger.verified, ledger.verified_balance to tallystick_verifier"
    )
    op.execute("grant execute on function ledger.stop_ledger to tallystick_verifier")
    op.execute("grant execute on function ledger.resume_ledger to tallystick_writer")
    op.execute(
        "grant select on ledger.stop to tallystick_writer, tallystick_api, tallystick_worker"
    )
    op.execute("grant select on ledger.verified to tallystick_api")
