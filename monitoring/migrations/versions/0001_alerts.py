"""Alerts as events with their projection, decisions on their way out, and the audit log."""

from alembic import op

revision = "0001"
down_revision = None

APPEND_ONLY = ("alert_event", "decision_outbox", "audit", "intake")


def upgrade() -> None:
    op.execute(
        """
        create table monitoring.alert_event (
          event_id bigint generated always as identity primary key,
          alert_id text not null,
          alert_seq integer not null check (alert_seq > 0),
          event_type text not null check (event_type in (
            'opened', 'evidence_added', 'episode_linked', 'corrected', 'merged',
            'closed', 'escalated', 'reopened')),
          recorded_at timestamptz not null,
          actor text not null,
          body jsonb not null,
          unique (alert_id, alert_seq)
        )
        """
    )
    op.execute(
        "comment on table monitoring.alert_event is 'The alerts themselves: history, append-only.'"
    )
    _projection()
    _records()
    op.execute(
        """
        create function monitoring.refuse_change() returns trigger language plpgsql as $$
        begin
          raise exception 'monitoring.% is append-only: % refused', tg_table_name, tg_op
            using errcode = 'restrict_violation',
                  hint = 'Append an event that corrects the earlier one.';
        end $$
        """
    )
    for table in APPEND_ONLY:
        op.execute(
            f"""
            create trigger append_only before update or delete or truncate on monitoring.{table}
            for each statement execute function monitoring.refuse_change()
            """
        )


def _projection() -> None:
    """What the events come to: written with them, rebuilt by `tally monitor verify`."""
    op.execute(
        """
        create table monitoring.alert (
          alert_id text primary key,
          version integer not null,
          rule text not null,
          ledger text not null,
          subject text not null,
          subject_kind text not null,
          status text not null check (status in ('open', 'escalated', 'closed', 'merged')),
          merged_into text references monitoring.alert,
          rule_version text not null,
          parameters_hash text not null,
          snapshot_version integer not null,
          as_of_seq bigint not null,
          window_start timestamp not null,
          window_end timestamp not null,
          score numeric(9, 4) not null,
          amount numeric(38, 0) not null,
          currency text not null,
          exponent integer not null,
          roles text[] not null,
          why text not null,
          corrected boolean not null,
          opened_at timestamptz not null,
          changed_at timestamptz not null,
          decided_by text,
          reason text
        )
        """
    )
    op.execute("create index on monitoring.alert (status, opened_at desc)")
    op.execute("create index on monitoring.alert (rule, ledger, subject)")
    op.execute(
        """
        create table monitoring.alert_episode (
          rule text not null,
          ledger text not null,
          subject text not null,
          episode text not null,
          alert_id text not null references monitoring.alert,
          primary key (rule, ledger, subject, episode)
        )
        """
    )
    op.execute(
        """
        create table monitoring.alert_evidence (
          alert_id text not null references monitoring.alert,
          seq bigint not null,
          entry_no integer not null,
          role text not null,
          amount numeric(38, 0) not null,
          currency text not null,
          added_by integer not null,
          removed_by integer,
          primary key (alert_id, seq, entry_no, role)
        )
        """
    )


def _records() -> None:
    op.execute(
        """
        create table monitoring.decision_outbox (
          seq bigint primary key,
          alert_id text not null references monitoring.alert,
          recorded_at timestamptz not null,
          bytes bytea not null
        )
        """
    )
    op.execute(
        """
        create table monitoring.audit (
          seq bigint primary key,
          recorded_at timestamptz not null,
          actor text not null,
          action text not null,
          subject text not null,
          outcome text not null,
          detail text not null,
          digest bytea not null
        )
        """
    )
    op.execute(
        """
        create table monitoring.intake (
          intake_id bigint generated always as identity primary key,
          snapshot_version integer not null,
          recorded_at timestamptz not null,
          candidates integer not null,
          opened integer not null,
          changed integer not null,
          as_of jsonb not null
        )
        """
    )
