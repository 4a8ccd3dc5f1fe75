"""One row changed in any table is named by table and row; a new table without a case fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg.rows import dict_row

from ledger_service.engine.verify import CHECKED, verify, verify_in, verify_new
from tests.integration.engine import populated
from tests.integration.engine.populated import KEYS, LEDGER
from tests.servers import LedgerDatabase, Postgres


class Change(NamedTuple):
    """What a superuser does to one row, and by what the finding names it."""

    table: str
    sql: str
    row: str
    also: str = ""
    """Another table that the finding may name with equal right."""


CHANGES = [
    Change(
        "ledger.journal",
        "update ledger.journal set bytes = set_byte(bytes, 60, 65) where seq = 77",
        "77",
    ),
    Change("ledger.journal", "delete from ledger.journal where seq = 77", "77"),
    Change("ledger.head", "update ledger.head set root = sha256(root)", LEDGER),
    Change("ledger.head", "update ledger.head set seq = seq - 1", LEDGER),
    Change(
        "ledger.tile",
        "update ledger.tile set hashes = set_byte(hashes, 0, get_byte(hashes, 0) # 1)",
        "0/0",
    ),
    Change("ledger.tile", "update ledger.tile set root = sha256(root)", "0/0"),
    Change(
        "ledger.account",
        "update ledger.account set floor = -5 where account = 'customer:1:wallet'",
        "customer:1:wallet",
    ),
    Change(
        "ledger.account",
        "update ledger.account set status = 'closed' where account = 'bank:fbo'",
        "bank:fbo",
    ),
    Change("ledger.account", "delete from ledger.account where account = 'bank:fbo'", "bank:fbo"),
    Change(
        "ledger.balance",
        "update ledger.balance set debits = debits + 1 where number = 3",
        "customer:1:wallet",
    ),
    Change("ledger.balance", "insert into ledger.balance values ('books', 999, 1, 1, 1)", "999"),
    Change(
        "ledger.posting_list",
        "update ledger.posting_list set amounts[1] = amounts[1] + 1 where number = 3",
        "3 ",
    ),
    Change(
        "ledger.idempotency",
        "update ledger.idempotency set digest = sha256(digest) where seq = 9",
        "seq 9",
    ),
    Change(
        "ledger.idempotency",
        "insert into ledger.idempotency values (sha256('x'), 'books', 9999, sha256('y'), 'a')",
        "2d711642",
    ),
    Change(
        "ledger.balance",
        "update ledger.balance set pending_debits = pending_debits + 1 where number = 3",
        "customer:1:wallet",
    ),
    Change(
        "ledger.hold", "update ledger.hold set amounts[1] = amounts[1] + 1 where seq = 308", "308"
    ),
    Change("ledger.hold", "update ledger.hold set state = 'voided' where seq = 307", "307"),
    Change("ledger.hold", "delete from ledger.hold where seq = 307", "307"),
    Change("ledger.capture", "delete from ledger.capture", "308 309"),
    Change("ledger.period", "update ledger.period set day = day - 1", "310"),
    Change("ledger.period", "delete from ledger.period where seq = 311", "311"),
    Change("ledger.declaration", "update ledger.declaration set name = 'x' where seq = 316", "316"),
    Change("ledger.declaration", "delete from ledger.declaration where seq = 316", "316"),
    Change("ledger.accrual", "delete from ledger.accrual where seq = 318", "318"),
    Change("ledger.accrual", "insert into ledger.accrual values ('books', 'save', 3, 9)", "9"),
    Change("ledger.reversal", "insert into ledger.reversal values ('books', 6, 7)", "6 7"),
    Change(
        "ledger.checkpoint",
        "update ledger.checkpoint set note = overlay(note placing 'bucks' from position('books'"
        " in note))",
        "318",
    ),
    Change("ledger.checkpoint", "update ledger.checkpoint set root = sha256(root)", "318"),
    Change(
        "ledger.cosignature",
        "update ledger.cosignature set line = replace(line, 'w.test', 'v.test')",
        "318 w.test",
    ),
    Change("ledger.cosignature", "delete from ledger.checkpoint", "318 w.test"),
    Change(
        "ledger.lease",
        "insert into ledger.lease values ('nowhere', 'x', 'y', now())",
        "nowhere",
    ),
    Change(
        "ledger.stop",
        "insert into ledger.stop (ledger, found_in, code, message, resumed_at, approval_id) "
        "select 'books', 't', 'c', 'm', now(), approval_id from security.approval",
        "1",
    ),
    Change(
        "ledger.stop",
        "insert into ledger.stop (ledger, found_in, code, message) values ('nowhere', 't', 'c',"
        " 'm')",
        "",
    ),
    Change(
        "ledger.projection",
        "update ledger.projection set seq = 99999 where ledger = 'books'",
        "history",
    ),
    Change(
        "ledger.recorded_day",
        "insert into ledger.recorded_day values ('books', '2026-01-01', 3)",
        "2026-01-01",
    ),
    Change(
        "ledger.day_delta",
        "insert into ledger.day_delta values ('books', 4, '2026-01-01', '2026-01-01', 1, 0)",
        "4, 2026-01-01",
    ),
    Change(
        "ledger.value_dated_entry",
        "update ledger.value_dated_entry set amount = 7 where effective_date = '2026-06-30'",
        "2026-06-30",
    ),
    Change("ledger.transaction", "update ledger.transaction set kind = 'fee' where seq = 77", "77"),
    Change(
        "ledger.transaction_bitmap",
        "update ledger.transaction_bitmap set bits = set_bit(bits, 77, 0) where field = 'kind' "
        "and get_bit(bits, 77) = 1",
        "kind",
    ),
    Change(
        "ledger.transaction_bitmap",
        "update ledger.transaction_bitmap set bits = set_bit(bits, 500, 1) where field = 'channel'",
        "channel",
    ),
    Change(
        "ledger.transaction_bitmap",
        "delete from ledger.transaction_bitmap where field = 'effective_at'",
        "effective_at, recorded_at, 0",
    ),
    Change(
        "ledger.value_dated_transaction",
        "update ledger.value_dated_transaction set effective_at = effective_at + interval '1 s'",
        "2026-06-30",
    ),
    Change(
        "ledger.value_dated_transaction",
        "insert into ledger.value_dated_transaction values ('books', '2026-01-01', 77)",
        "77",
    ),
    Change(
        "ledger.transaction_metadata",
        "update ledger.transaction_metadata set value = 'x' where seq = 77",
        "77",
    ),
    Change("ledger.verified", "update ledger.verified set root = sha256(root)", LEDGER),
    Change("ledger.verified", "update ledger.verified set seq = 999", LEDGER),
    Change(
        "ledger.verified_balance",
        "update ledger.verified_balance set credits = credits + 1 where number = 4",
        "4",
    ),
    Change("ledger.verified_balance", "delete from ledger.verified_balance where number = 3", "3"),
    Change(
        "stream.head",
        "update stream.head set seq = seq + 1 where stream = 'parties'",
        "parties",
    ),
    Change(
        "stream.event",
        "update stream.event set bytes = set_byte(bytes, 0, 32) where stream = 'parties' and "
        "seq = 2",
        "parties 2",
    ),
    Change(
        "stream.event",
        "update stream.event set subject = 'x' where stream = 'parties' and seq = 2",
        "parties 2",
    ),
    Change(
        "stream.relay_position",
        "update stream.relay_position set seq = 99999",
        "tallystick.books",
    ),
    Change(
        "security.audit_log",
        "update security.audit_log set content = replace(content, 'done', 'gone') where seq = 2",
        "2",
    ),
    Change("security.audit_log", "delete from security.audit_log where seq = 2", "3"),
    Change("security.audit_head", "update security.audit_head set hash = sha256(hash)", "head"),
    Change(
        "security.approval",
        "update security.approval set facts = jsonb_set(facts, '{transaction}', '8')",
        "apr_",
    ),
    Change(
        "security.approval",
        "update security.approval set decided_by = (select user_id from security.person where "
        "user_name = 'operator')",
        "apr_",
    ),
    Change(
        "security.approval",
        "update security.approval set consumed_seq = 7 where kind = 'reversal'",
        "apr_",
    ),
    Change(
        "security.person",
        "update security.person set roles = '{king}' where user_name = 'approver'",
        "usr_",
    ),
    Change("security.api_key", "update security.api_key set roles = roles || '{king}'", "key_"),
    Change("security.session", "update security.session set user_id = 'usr_x'", "ses_"),
    Change("security.sign_in_attempts", "update security.sign_in_attempts set failures = 0", ""),
    Change(
        "vault.party",
        "update vault.party set risk_tier = 'high' where erased_at is null",
        "pty_",
    ),
    Change(
        "vault.field",
        "insert into vault.field select party_id, 'name', 'sealed sealed sealed sealed sealed' "
        "from vault.party where erased_at is not null",
        "pty_",
    ),
    Change(
        "vault.blind_index",
        "update vault.blind_index set party_id = (select party_id from vault.party where "
        "erased_at is not null)",
        "pty_",
    ),
    Change("vault.file", "update vault.file set sealed = 'x'", ""),
    Change("payments.reversal", "update payments.reversal set reason = 'fraud'", "rev_"),
    Change("payments.reversal", "update payments.reversal set executed_seq = 8", "rev_"),
    Change(
        "payments.reversal_event",
        "delete from payments.reversal_event where step = 'executed'",
        "rev_",
    ),
    Change("payments.start_outbox", "delete from payments.start_outbox", "rev_"),
    Change(
        "statement.account",
        "update statement.account set account = 'bank:other'",
        "sta_",
        "tok_",
    ),
    Change("statement.file", "update statement.file set statements = 3", ""),
    Change("statement.statement", "update statement.statement set line_count = 2", ""),
    Change(
        "statement.quarantine",
        "update statement.quarantine set position = 9",
        "",
        "statement.file",
    ),
    Change("public.ledger_migrations", "insert into ledger_migrations values ('9999')", ""),
]


@pytest.fixture(scope="module")
def original(
    postgres: Postgres, _migrated: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LedgerDatabase]:
    """A database with rows in every table, verified once, sound."""
    database = LedgerDatabase(postgres.create_database("every_table", template=_migrated))
    with pytest.MonkeyPatch.context() as patch:
        populated.populate(database, tmp_path_factory.mktemp("populated"), patch)
    assert verify_new(database.url("verifier"), keys=KEYS).findings == []
    yield database
    postgres.drop_database("every_table")


def test_what_nobody_touched_is_sound_and_every_table_has_rows(original: LedgerDatabase) -> None:
    report = verify(original.url("verifier"), keys=KEYS)
    assert report.findings == []
    assert set(report.tables) == set(CHECKED)
    with psycopg.connect(original.owner_url) as connection:
        empty = [
            table
            for table in report.tables
            if not connection.execute(f"select exists (select from {table})").fetchone()[0]  # type: ignore[index]
        ]
    assert set(empty) <= {"ledger.stop"}, "give it a row in tests/integration/engine/populated.py"


def test_every_table_has_a_change_here() -> None:
    assert {change.table for change in CHANGES} == set(CHECKED)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change.table}: {change.sql[:40]}")
def test_a_changed_row_is_named(
    original: LedgerDatabase, postgres: Postgres, change: Change
) -> None:
    """By the full run; the change is a superuser's, all guards off, and is rolled back."""
    url = f"{postgres.admin_url.rsplit('/', 1)[0]}/every_table"
    rows: Any = dict_row
    with psycopg.connect(url, row_factory=rows) as connection:
        connection.execute("set session_replication_role = replica")
        assert connection.execute(change.sql).rowcount > 0  # type: ignore[arg-type]
        found = verify_in(connection, None, KEYS, full=True).findings
        connection.rollback()
    named = [f for f in found if f.table in (change.table, change.also)]
    assert named, found
    assert any(change.row in f.row or change.row == str(f.seq) for f in named), named


def test_a_table_without_a_check_is_a_finding(original: LedgerDatabase, postgres: Postgres) -> None:
    changed = LedgerDatabase(postgres.create_database("novel", template="every_table"))
    with psycopg.connect(changed.owner_url) as connection:
        connection.execute("create table vault.novel (x int)")
    [finding] = verify(changed.url("verifier"), keys=KEYS).findings
    assert (finding.table, finding.code) == ("vault.novel", "table_without_check")
    postgres.drop_database("novel")
