"""Payments and reversals: requests and their states."""

from alembic import op

revision = "0006"
down_revision = "0005"

REVERSALS = """
create schema payments;

create table payments.reversal (
  reversal_id text primary key,
  ledger text not null,
  transaction_seq bigint not null check (transaction_seq > 0),
  amount bigint check (amount > 0),
  reason text not null,
  requested_by text not null,
  requested_at timestamptz not null default now(),
  request_id text,
  policy text not null,
  key_digest bytea not null check (octet_length(key_digest) = 32),
  approval_id text not null unique references security.approval,
  status text not null default 'requested' check (status in
    ('requested', 'awaiting_approval', 'approved', 'executed', 'refused', 'expired', 'failed')),
  executed_seq bigint,
  last_error text,
  told_at timestamptz,
  unique (ledger, key_digest),
  unique (ledger, executed_seq),
  constraint execution_is_whole check ((status = 'executed') = (executed_seq is not null))
);
create index on payments.reversal (ledger, transaction_seq);
create index on payments.reversal (requested_at, reversal_id);
create index on payments.reversal (approval_id)
  where status in ('requested', 'awaiting_approval', 'approved');
comment on column payments.reversal.amount is 'minor units; null: all of the original';
comment on column payments.reversal.policy is 'name and version of the policy that let it pass';
comment on column payments.reversal.key_digest is 'SHA-256 of the idempotency key';
comment on column payments.reversal.told_at is 'when its workflow was told of the decision';

create function payments.guard_reversal() returns trigger language plpgsql as $$
begin
  if new.status <> old.status and not (
       old.status = 'requested' and new.status in
         ('awaiting_approval', 'approved', 'refused', 'expired')
    or old.status = 'awaiting_approval' and new.status in ('approved', 'refused', 'expired')
    or old.status = 'approved' and new.status in ('executed', 'expired', 'failed')) then
    raise exception 'a reversal does not go from % to %', old.status, new.status
      using errcode = 'integrity_constraint_violation';
  end if;
  return new;
end $$;
create trigger one_way before update on payments.reversal
  for each row execute function payments.guard_reversal();

create table payments.reversal_event (
  reversal_id text not null references payments.reversal,
  number bigint generated always as identity,
  recorded_at timestamptz not null default clock_timestamp(),
  step text not null,
  code text,
  actor text not null,
  primary key (reversal_id, number)
);
comment on table payments.reversal_event is
  'what happened to a reversal, append-only: a row per change of status and per attempt to execute';
comment on column payments.reversal_event.code is 'of the error or refusal, where there is one';
"""

STARTS = """
create table payments.start_outbox (
  workflow_id text primary key,
  workflow_type text not null,
  argument jsonb not null,
  written_at timestamptz not null default now(),
  started_at timestamptz
);
create index on payments.start_outbox (written_at) where started_at is null;
comment on table payments.start_outbox is
  'one row per workflow, kept for ever: that it stands here, not what Temporal remembers, decides '
  'that the workflow starts, and starts once';
"""

GRANTS = """
grant usage on schema payments to tallystick_api, tallystick_worker;
grant select, insert on payments.reversal, payments.reversal_event, payments.start_outbox
  to tallystick_api;
grant select on payments.reversal, payments.reversal_event, payments.start_outbox
  to tallystick_worker;
grant insert on payments.reversal_event to tallystick_worker;
grant update (status, executed_seq, last_error, told_at) on payments.reversal to tallystick_worker;
grant update (started_at) on payments.start_outbox to tallystick_worker;
"""


def upgrade() -> None:
    for step in (REVERSALS, STARTS, GRANTS):
        op.execute(step)
