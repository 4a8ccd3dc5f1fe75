"""Roles of least privilege, and the streams beside the journals."""

from alembic import op

revision = "0001"
down_revision = None

ROLES = ("tallystick_writer", "tallystick_api", "tallystick_relay", "tallystick_worker")


def upgrade() -> None:
    for role in ROLES:
        # Roles belong to the cluster, not to the database: another database may have made them.
        op.execute(
            f"""
            do $$ begin
              create role {role} nologin;
            exception when duplicate_object then null;
            end $$
            """
        )
    op.execute("revoke create on schema public from public")
    op.execute("create schema stream")
    op.execute(
        """
        create table stream.head (
          stream text primary key,
          seq bigint not null
        )
        """
    )
    op.execute(
        """
        create table stream.event (
          stream text not null,
          seq bigint not null,
          event_type text not null,
          subject text not null,
          recorded_at timestamptz not null,
          bytes bytea not null,
          primary key (stream, seq)
        )
        """
    )
    op.execute("insert into stream.head values ('parties', 0), ('statements', 0)")
    op.execute("grant usage on schema stream to " + ", ".join(ROLES))
    op.execute("grant select, insert on stream.event to tallystick_api, tallystick_worker")
    op.execute("grant select, update on stream.head to tallystick_api, tallystick_worker")
    op.execute("grant select on stream.event, stream.head to tallystick_relay, tallystick_writer")
