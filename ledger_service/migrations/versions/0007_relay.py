"""How far the relay is: advisory, for progress pages; the truth is the last record of each topic."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute(
        """
        create table stream.relay_position (
          topic text primary key,
          seq bigint not null,
          updated_at timestamptz not null default now()
        )
        """
    )
    op.execute("grant select, insert, update on stream.relay_position to tallystick_relay")
    op.execute("grant select on stream.relay_position to tallystick_api, tallystick_writer")
