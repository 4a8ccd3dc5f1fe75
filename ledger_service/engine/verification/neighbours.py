"""What lies beside the ledgers: streams, approvals, audit log, vault, reversals, statements.

Most checks are a query that gives the rows which contradict another table; two walk their rows.
What has no second source anywhere (a password's hash, a sealed name) is checked for its form only.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import msgspec
import psycopg

from ledger_service.contract import events
from ledger_service.contract.permissions import ROLES
from ledger_service.domain.approval import approval_digest
from ledger_service.engine.verification.report import Connection, Report, Row


class Rule(NamedTuple):
    """A query that gives what is wrong in `table`: columns name and message."""

    table: str
    code: str
    sql: str


_EVENT = "convert_from(e.bytes, 'UTF8')::jsonb"

RULES = (
    Rule(
        "ledger.lease",
        "bad_lease",
        """select ledger as name, 'a lease without ledger, holder or address' as message
             from ledger.lease where ledger <> '*' and (holder = '' or address = ''
               or ledger not in (select ledger from ledger.head))""",
    ),
    Rule(
        "ledger.stop",
        "resumed_without_approval",
        """select s.number::text as name, 'it was resumed without the approval it names' as message
             from ledger.stop s left join security.approval a using (approval_id)
            where s.resumed_at is not null and
              (a.kind, a.status, a.consumed_ledger, a.consumed_seq, a.facts ->> 'ledger',
               a.facts ->> 'code', a.facts ->> 'found_in', a.facts ->> 'stop')
              is distinct from ('ledger_resumption', 'consumed', 'ledger.stop', s.number, s.ledger,
               s.code, s.found_in, s.number::text)""",
    ),
    Rule(
        "ledger.stop",
        "no_such_ledger",
        """select number::text as name, 'there is no ledger ' || ledger as message
             from ledger.stop where ledger not in (select ledger from ledger.head)""",
    ),
    Rule(
        "stream.head",
        "wrong_seq",
        """select stream as name, 'it says ' || h.seq || ', the last event is ' || count(e.seq)
                    as message
             from stream.head h left join stream.event e using (stream) group by stream, h.seq
           having h.seq <> count(e.seq) or h.seq <> coalesce(max(e.seq), 0)""",
    ),
    Rule(
        "stream.relay_position",
        "beyond_source",
        """select topic as name, 'it was published to ' || p.seq || ', beyond its source' as message
             from stream.relay_position p left join
               (select 'tallystick.' || ledger || '.journal.v1' as topic, seq from ledger.head
                union all
                select 'tallystick.' || stream || '.v1', seq from stream.head) s using (topic)
            where s.seq is null or p.seq > s.seq or p.seq < 0""",
    ),
    Rule(
        "security.audit_log",
        "chain_broken",
        """select seq::text as name, 'it does not follow from the rows before it' as message
             from (select seq, hash, content, row_number() over w as due,
                     lag(hash, 1, decode(repeat('00', 32), 'hex')) over w as before
                     from security.audit_log window w as (order by seq)) c
            where seq <> due or hash <> sha256(before || int8send(seq) || convert_to(content, 'UTF8'))
            order by seq limit 20""",
    ),
    Rule(
        "security.audit_head",
        "wrong_head",
        """select 'head' as name, 'it is not the last row of the log' as message
             from (select 1) one left join security.audit_head h on true
             left join (select seq, hash from security.audit_log order by seq desc limit 1) l on true
            where h.seq is distinct from coalesce(l.seq, 0)
               or h.hash is distinct from coalesce(l.hash, decode(repeat('00', 32), 'hex'))""",
    ),
    Rule(
        "security.approval",
        "not_decided_on_record",
        """select approval_id as name, 'the audit log does not tell of this decision' as message
             from security.approval a where status <> 'pending' and not exists
               (select from security.audit_log l where l.actor = a.decided_by
                   and l.action = 'approval.decided' and l.content::json ->> 'subject' = approval_id
                   and l.content::json ->> 'outcome' = 'done')
                or decided_by in (requested_by, requested_for)""",
    ),
    Rule(
        "security.approval",
        "not_asked_on_record",
        """select approval_id as name, 'the audit log does not tell of this request' as message
             from security.approval a where not exists
               (select from security.audit_log l where l.actor = a.requested_by
                   and l.action = 'approval.requested'
                   and l.content::json ->> 'subject' = approval_id)""",
    ),
    Rule(
        "security.person",
        "bad_identity",
        f"""select user_id as name, 'unknown roles, no name, or revoked before it was made' as message
             from security.person where not roles <@ array{list(ROLES)} or user_name = ''
               or user_id !~ '^usr_[0-9a-z]{{26}}$' or revoked_at < created_at""",
    ),
    Rule(
        "security.api_key",
        "bad_identity",
        f"""select key_id as name, 'unknown roles or holder, or revoked before it was made' as message
             from security.api_key where not roles <@ array{list(ROLES)} or name = ''
               or revoked_at < created_at
               or not exists (select from security.person p where p.user_id = holder)
              and holder is not null""",
    ),
    Rule(
        "security.session",
        "bad_session",
        """select session_id as name, 'it has no person, or ends before it begins' as message
             from security.session where length(secret_hash) <> 32 or expires_at <= created_at
               or user_id not in (select user_id from security.person)""",
    ),
    Rule(
        "security.sign_in_attempts",
        "bad_attempts",
        """select encode(user_name_digest, 'hex') as name, 'not a digest and a count' as message
             from security.sign_in_attempts
            where length(user_name_digest) <> 32 or failures < 1""",
    ),
    Rule(
        "vault.party",
        "differs_from_stream",
        f"""select coalesce(p.party_id, e.party) as name, 'not as last announced' as message
             from vault.party p full join
               (select distinct on (subject) subject as party, {_EVENT} as said
                  from stream.event e where stream = 'parties' order by subject, seq desc) e
               on e.party = p.party_id
            where (p.party_id, p.kind, p.country, p.risk_tier, p.version, p.erased_at is not null)
               is distinct from (said ->> 'party', said ->> 'kind', said ->> 'country',
                 said ->> 'risk_tier', (said ->> 'version')::int, (said ->> 'erased')::boolean)
               or (p.erased_at is null) <> (p.wrapped_key is not null)""",
    ),
    Rule(
        "vault.field",
        "not_erased",
        """select party_id || ' ' || field as name, 'of no party, of an erased one, or not sealed'
                    as message
             from vault.field f left join vault.party p using (party_id)
            where p.party_id is null or p.erased_at is not null or length(f.sealed) < 28""",
    ),
    Rule(
        "vault.blind_index",
        "not_erased",
        """select party_id || ' ' || field as name, 'of no party, of an erased one, or no hash'
                    as message
             from vault.blind_index i left join vault.party p using (party_id)
            where p.party_id is null or p.erased_at is not null or length(i.digest) <> 32
               or not exists (select from vault.field f where f.party_id = i.party_id
                               and f.field = i.field)""",
    ),
    Rule(
        "vault.file",
        "not_sealed",
        """select file_id as name, 'not sealed under a wrapped key' as message from vault.file
            where length(sealed) < 28 or length(wrapped_key) < 28 or kind = '' or source = ''""",
    ),
    Rule(
        "payments.reversal",
        "differs_from_approval",
        """select reversal_id as name, 'not as its approval or the ledger says' as message
             from payments.reversal r left join security.approval a using (approval_id)
            where (a.subject, a.facts ->> 'ledger', (a.facts ->> 'transaction')::bigint,
                   a.facts ->> 'amount', a.facts ->> 'reason', a.requested_by)
               is distinct from (r.reversal_id, r.ledger, r.transaction_seq, r.amount::text,
                   r.reason, r.requested_by)
               or r.executed_seq is not null and not exists
                 (select from ledger.reversal l where l.ledger = r.ledger
                     and l.reverses = r.transaction_seq and l.seq = r.executed_seq)
               or r.status not in ('executed', 'approved') and a.status = 'consumed'""",
    ),
    Rule(
        "payments.reversal_event",
        "differs_from_reversal",
        """select reversal_id as name, 'its history does not end where it stands' as message
             from payments.reversal r full join
               (select distinct on (reversal_id) reversal_id, step
                  from payments.reversal_event where step <> 'attempt'
                 order by reversal_id, number desc) e using (reversal_id)
            where e.step is distinct from r.status""",
    ),
    Rule(
        "payments.start_outbox",
        "differs_from_reversal",
        """select coalesce(workflow_id, reversal_id) as name, 'not one start for a reversal'
                    as message
             from payments.start_outbox o
             full join payments.reversal r on workflow_id = 'reversal-' || reversal_id
            where (o.argument ->> 'reversal', o.argument ->> 'approval')
               is distinct from (r.reversal_id, r.approval_id)""",
    ),
    Rule(
        "statement.account",
        "differs_from_stream",
        f"""select coalesce(statement_account, e.said ->> 'statement_account') as name,
                    'not as announced' as message
             from statement.account a full join
               (select {_EVENT} as said from stream.event e
                 where event_type = 'statement_account.registered') e
               on e.said ->> 'statement_account' = statement_account
            where (a.bank, a.ledger, a.account, a.purpose, a.rounded_half_minor_per_entry)
               is distinct from (said ->> 'bank', said ->> 'ledger', said ->> 'account',
                 said ->> 'purpose', (said ->> 'rounded_half_minor_per_entry')::int)""",
    ),
    Rule(
        "statement.statement",
        "differs_from_stream",
        f"""with said as (
              select {_EVENT} as said from stream.event e where event_type = 'statement.received'),
            lines as (
              select {_EVENT} ->> 'statement' as statement, count(*) as number from stream.event e
               where event_type = 'statement.line' group by 1)
            select coalesce(s.statement, said ->> 'statement') as name, 'not as announced' as message
              from statement.statement s full join said on said ->> 'statement' = s.statement
              left join lines l on l.statement = s.statement
             where (s.statement_account, s.statement_date::text, s.line_count)
                is distinct from (said ->> 'statement_account', said ->> 'statement_date',
                  (said ->> 'line_count')::int)
                or s.line_count <> coalesce(l.number, 0) or length(s.content_hash) <> 32
                or not exists (select from statement.file f where f.file_hash = s.file_hash
                     and s.statement = f.file_id || '-' || s.position)""",
    ),
    Rule(
        "statement.file",
        "differs_from_vault",
        """select f.file_id as name, 'not in the vault, or with other statements' as message
             from statement.file f where length(file_hash) <> 32
               or not exists (select from vault.file v where v.file_id = f.file_id)
               or f.statements <> (select count(distinct position) from
                    (select position from statement.statement s where s.file_hash = f.file_hash
                     union all
                     select position from statement.quarantine q where q.file_hash = f.file_hash) x)
        """,
    ),
    Rule(
        "statement.quarantine",
        "no_such_file",
        """select encode(file_hash, 'hex') || ' ' || position as name, 'of no file' as message
             from statement.quarantine q left join statement.file f using (file_hash)
            where f.file_id is null or q.position not between 1 and f.statements or q.reason = ''""",
    ),
    Rule(
        "public.ledger_migrations",
        "wrong_version",
        """select coalesce(min(version_num), 'none') as name, 'not one version' as message
             from ledger_migrations having count(*) <> 1 or min(version_num) !~ '^[0-9]{4}$'""",
    ),
)


def rules(connection: Connection, report: Report) -> None:
    """Ask each question of `RULES`."""
    for rule in RULES:
        try:
            with connection.transaction():
                found = connection.execute(rule.sql).fetchmany(20)
        except psycopg.DataError:
            report.add(
                rule.table, "", "not_comparable", "it is compared with bytes that are no event"
            )
            continue
        for row in found:
            report.add(rule.table, "", rule.code, row["message"], row=row["name"])


def streams(connection: Connection, report: Report) -> None:
    """Each stream is gapless, and its events are what their rows say."""
    last: dict[str, int] = {}
    with connection.cursor("streams") as cursor:
        cursor.itersize = 2000
        cursor.execute(
            "select stream, seq, event_type, recorded_at, subject, bytes from stream.event "
            "order by stream, seq"
        )
        for row in cursor:
            stream, name = row["stream"], f"{row['stream']} {row['seq']}"
            if row["seq"] != last.get(stream, 0) + 1:
                message = f"after {last.get(stream, 0)} comes {row['seq']}"
                report.add("stream.event", "", "gap", message, row=name)
            last[stream] = row["seq"]
            for code in _wrong_in(row):
                report.add("stream.event", "", code, code.replace("_", " "), row=name)


def _wrong_in(row: Row) -> list[str]:
    try:
        event = events.decode_stream(row["bytes"])
    except (msgspec.ValidationError, msgspec.DecodeError):
        return ["not_an_event"]
    subject = getattr(event, "party", None) or getattr(event, "statement_account", row["subject"])
    facts = {
        "not_canonical": events.encode(event) != row["bytes"],
        "wrong_stream": event.stream != row["stream"],
        "wrong_seq": event.seq != row["seq"],
        "wrong_type": events.event_type(event) != row["event_type"],
        "wrong_time": events.timestamp(row["recorded_at"]) != event.recorded_at,
        "wrong_subject": subject != row["subject"],
    }
    return [code for code, is_wrong in facts.items() if is_wrong]


def approvals(connection: Connection, report: Report) -> None:
    """What was approved is what its digest says."""
    with connection.cursor("approvals") as cursor:
        cursor.execute("select approval_id, kind, digest, facts::text from security.approval")
        for row in cursor:
            facts: dict[str, Any] = json.loads(row["facts"])
            if approval_digest(facts) != row["digest"] or facts.get("kind") != row["kind"]:
                message = "digest and facts differ"
                report.add(
                    "security.approval", "", "digest_differs", message, row=row["approval_id"]
                )
