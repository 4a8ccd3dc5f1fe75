"""Who may: users, sessions, API keys, sign-in attempts, approvals, the audit log."""

from alembic import op

revision = "0003"
down_revision = "0002"

IDENTITIES = """
create schema security;

create table security.person (
  user_id text primary key,
  user_name text not null unique,
  password_hash text not null,
  roles text[] not null check (cardinality(roles) > 0),
  demo boolean not null,
  created_at timestamptz not null default now(),
  revoked_at timestamptz
);

create table security.api_key (
  key_id text primary key,
  name text not null unique,
  secret_hash bytea not null,
  roles text[] not null check (cardinality(roles) > 0),
  holder text references security.person,
  demo boolean not null,
  created_at timestamptz not null default now(),
  revoked_at timestamptz
);
comment on column security.api_key.holder is
  'the person who holds the key; null for a part of the system';

create table security.session (
  session_id text primary key,
  user_id text not null references security.person,
  secret_hash bytea not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  revoked_at timestamptz,
  unique (session_id, user_id)
);

create table security.sign_in_attempts (
  user_name_digest bytea primary key,
  failures integer not null,
  attempted_at timestamptz not null,
  locked_until timestamptz
);
create index on security.sign_in_attempts (attempted_at);
comment on column security.sign_in_attempts.user_name_digest is
  'keyed hash: what is typed into the wrong field may be anything';
"""

APPROVALS = """
create table security.approval (
  approval_id text primary key,
  kind text not null,
  subject text not null,
  digest text not null check (digest ~ '^[0-9a-f]{64}$'),
  facts jsonb not null,
  requested_by text not null,
  requested_for text not null,
  requested_at timestamptz not null default now(),
  expires_at timestamptz not null,
  status text not null default 'pending'
    check (status in ('pending', 'approved', 'refused', 'consumed')),
  decided_by text references security.person,
  decided_at timestamptz,
  session_id text,
  reason text,
  consumed_at timestamptz,
  consumed_ledger text,
  consumed_seq bigint,
  constraint maker_is_not_checker
    check (decided_by is null or (decided_by <> requested_by and decided_by <> requested_for)),
  constraint decided_in_own_session
    foreign key (session_id, decided_by) references security.session (session_id, user_id),
  constraint decision_is_whole check (
    (status = 'pending') = (decided_by is null)
    and num_nulls(decided_by, decided_at, session_id, reason) in (0, 4)),
  constraint consumption_is_whole check (
    (status = 'consumed') = (consumed_seq is not null)
    and num_nulls(consumed_at, consumed_ledger, consumed_seq) in (0, 3))
);
create index on security.approval (status, requested_at);
create unique index on security.approval (consumed_ledger, consumed_seq);
comment on column security.approval.requested_for is
  'the person behind the request: the holder of the key, else the requester';

create function security.guard_approval() returns trigger language plpgsql as $$
begin
  if not (old.status = 'pending' and new.status in ('approved', 'refused')
          or old.status = 'approved' and new.status = 'consumed') then
    raise exception 'an approval does not go from % to %', old.status, new.status
      using errcode = 'integrity_constraint_violation';
  end if;
  return new;
end $$;
create trigger one_way before update on security.approval
  for each row execute function security.guard_approval();

create function security.consume_approval(approval_id text, digest text, ledger text, seq bigint)
returns boolean language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
  with consumed as (
    update security.approval a
       set status = 'consumed', consumed_at = clock_timestamp(),
           consumed_ledger = $3, consumed_seq = $4
     where a.approval_id = $1 and a.digest = $2 and a.status = 'approved'
       and a.expires_at > clock_timestamp()
    returning 1)
  select exists (select from consumed)
$$;
comment on function security.consume_approval is
  'spends an approval inside the transaction of the command it was given for: true once, and only '
  'for exactly what was approved';
"""

AUDIT = """
create table security.audit_head (
  single boolean primary key default true check (single),
  seq bigint not null,
  hash bytea not null
);
insert into security.audit_head (seq, hash) values (0, decode(repeat('00', 32), 'hex'));

create table security.audit_log (
  seq bigint primary key,
  content text not null,
  hash bytea not null,
  actor text not null generated always as (content::json ->> 'actor') stored,
  action text not null generated always as (content::json ->> 'action') stored
);
create index on security.audit_log (actor, seq);
create index on security.audit_log (action, seq);

create function security.append_audit(content text) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  head security.audit_head;
begin
  select * into strict head from security.audit_head for update;
  head.seq := head.seq + 1;
  head.hash := sha256(head.hash || int8send(head.seq) || convert_to(content, 'UTF8'));
  insert into security.audit_log (seq, content, hash) values (head.seq, content, head.hash);
  update security.audit_head set seq = head.seq, hash = head.hash;
  return head.seq;
end $$;

create function security.refuse_change() returns trigger language plpgsql as $$
begin
  raise exception 'the audit log is append-only' using errcode = 'integrity_constraint_violation';
end $$;
create trigger append_only before update or delete or truncate on security.audit_log
  for each statement execute function security.refuse_change();
"""

GRANTS = """
grant usage on schema security to tallystick_api, tallystick_writer, tallystick_worker;
grant select, insert on security.person, security.api_key, security.session to tallystick_api;
grant update (password_hash, roles, revoked_at) on security.person to tallystick_api;
grant update (name, revoked_at) on security.api_key to tallystick_api;
grant update (revoked_at) on security.session to tallystick_api;
grant select, insert, update, delete on security.sign_in_attempts to tallystick_api;
grant select, insert on security.approval to tallystick_api;
grant update (status, decided_by, decided_at, session_id, reason)
  on security.approval to tallystick_api;
grant select on security.approval to tallystick_worker, tallystick_writer;
grant select on security.audit_log, security.audit_head to tallystick_api;
revoke execute on function security.consume_approval, security.append_audit from public;
grant execute on function security.consume_approval to tallystick_writer;
grant execute on function security.append_audit to tallystick_api, tallystick_worker;
"""


def upgrade() -> None:
    for step in (IDENTITIES, APPROVALS, AUDIT, GRANTS):
        op.execute(step)
