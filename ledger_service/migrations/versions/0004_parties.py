"""The vault: encrypted persons, businesses and raw files."""

from alembic import op

revision = "0004"
down_revision = "0003"

TABLES = """
create schema vault;

create table vault.party (
  party_id text primary key,
  kind text not null check (kind in ('person', 'business')),
  country text not null check (country ~ '^[A-Z]{2}$'),
  risk_tier text not null check (risk_tier in ('low', 'medium', 'high')),
  version integer not null,
  key_id text not null,
  wrapped_key bytea,
  reference_digest bytea unique,
  registered_at timestamptz not null default now(),
  registered_by text not null,
  retain_until date,
  legal_hold boolean not null default false,
  erased_at timestamptz,
  constraint erased_without_key check ((erased_at is null) = (wrapped_key is not null)),
  constraint held_is_not_erased check (not (legal_hold and erased_at is not null))
);
comment on column vault.party.wrapped_key is
  'the party''s own key under the key of keys; null once erased, and so are its fields';
comment on column vault.party.reference_digest is
  'keyed hash of the registrant''s own reference, by which a repeat is recognised';

create table vault.field (
  party_id text not null references vault.party,
  field text not null,
  sealed bytea not null,
  primary key (party_id, field)
);

create table vault.blind_index (
  field text not null,
  digest bytea not null,
  party_id text not null references vault.party,
  primary key (field, digest)
);
create index on vault.blind_index (party_id);

create table vault.file (
  file_id text primary key,
  kind text not null,
  source text not null,
  key_id text not null,
  wrapped_key bytea not null,
  sealed bytea not null,
  stored_at timestamptz not null default now()
);
comment on column vault.file.file_id is 'keyed hash of the content: the same file is stored once';
"""

GRANTS = """
grant usage on schema vault to tallystick_api;
grant select, insert, delete on vault.field, vault.blind_index to tallystick_api;
grant select, insert on vault.party, vault.file to tallystick_api;
grant update (version, key_id, wrapped_key, reference_digest, retain_until, legal_hold, erased_at)
  on vault.party to tallystick_api;
grant update (key_id, wrapped_key) on vault.file to tallystick_api;
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(GRANTS)
