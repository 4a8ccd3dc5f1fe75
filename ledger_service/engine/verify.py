"""`tally verify`: every promise about stored data, derived again from the journal's bytes.

One snapshot; whatever is not as it must be becomes a Finding that names table and row. A full run
reads everything. An incremental run reads what came since the last one that found a ledger sound,
and remembers how far it got. Each table of the database has a check in the tables below, and one
that has none is a finding itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import dict_row

from ledger_service.contract.brokers import Brokers
from ledger_service.engine.projections import HISTORY
from ledger_service.engine.verification import (
    journal,
    neighbours,
    position,
    projections,
    rules,
    signatures,
)
from ledger_service.engine.verification.kafka import check_kafka
from ledger_service.engine.verification.report import (
    Connection,
    Finding,
    Keys,
    Remedy,
    Report,
    Row,
    Scope,
)

__all__ = ["Finding", "Keys", "Report", "verify", "verify_new"]

IGNORED_SCHEMAS = ("pg_catalog", "information_schema", "monitoring")
"""`tally monitor verify` checks the monitor's own schema."""


class Check(NamedTuple):
    """Part of the verification of one ledger; runs in the order of the table, on one fold."""

    run: Callable[[Scope], None]
    tables: Mapping[str, Remedy]
    """What it looks at, and what is done about a finding there."""


class SharedCheck(NamedTuple):
    """Verification of what belongs to no ledger; runs in full runs."""

    run: Callable[[Connection, Report], None]
    tables: dict[str, Remedy]


CHECKS = (
    Check(
        journal.check,
        {
            "ledger.journal": "stop",
            "ledger.head": "stop",
            "ledger.tile": "stop",
            "ledger.checkpoint": "stop",
            "ledger.cosignature": "look",
            "ledger.verified": "look",
            "ledger.verified_balance": "look",
        },
    ),
    Check(projections.accounts, {"ledger.account": "stop", "ledger.balance": "stop"}),
    Check(projections.holds, {"ledger.hold": "stop"}),
    Check(projections.captures, {"ledger.capture": "look"}),
    Check(projections.periods, {"ledger.period": "stop"}),
    Check(rules.declarations, {"ledger.declaration": "stop"}),
    Check(rules.accruals, {"ledger.accrual": "stop"}),
    Check(projections.reversals, {"ledger.reversal": "stop"}),
    Check(projections.idempotency, {"ledger.idempotency": "stop"}),
    Check(projections.approvals, {"security.approval": "look"}),
    Check(projections.posting_lists, {"ledger.posting_list": "rebuild"}),
    Check(
        projections.followers,
        dict.fromkeys(
            ("ledger.projection", *(f"ledger.{table.name}" for table in HISTORY.tables)), "rebuild"
        ),
    ),
)
SHARED_CHECKS = (
    SharedCheck(neighbours.rules, {rule.table: "look" for rule in neighbours.RULES}),
    SharedCheck(neighbours.streams, {"stream.event": "look"}),
    SharedCheck(neighbours.approvals, {"security.approval": "look"}),
)
CHECKED: dict[str, Remedy] = {
    table: remedy for check in (*CHECKS, *SHARED_CHECKS) for table, remedy in check.tables.items()
}
"""Every table that has a check."""

_TABLES = """
  select n.nspname || '.' || c.relname as name
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
   where c.relkind in ('r', 'p', 'm', 'f') and not c.relispartition
     and n.nspname <> all(%s) and n.nspname !~ '^pg_(toast|temp)'
   order by 1
"""


def verify(
    url: str,
    ledger: str | None = None,
    *,
    full: bool = True,
    keys: Keys | None = None,
    brokers: Brokers | None = None,
) -> Report:
    """Verify one ledger or all, changing nothing. `brokers`: of which the topics are compared, too.

    Without `full`, only what came since the last sound incremental run.
    """
    with _snapshot(url, read_only=True) as connection:
        report = verify_in(connection, ledger, keys or Keys(), full=full)
        if brokers is not None:
            check_kafka(connection, report, brokers, ledger)
    return report


def verify_new(url: str, ledger: str | None = None, *, keys: Keys | None = None) -> Report:
    """Verify what came since the last time, and remember how far each sound ledger got.

    `url` is the verifier's role. One run at a time: a second one waits.
    """
    with _snapshot(url, read_only=False) as connection:
        return verify_in(connection, ledger, keys or Keys(), full=False, remember=True)


def _snapshot(url: str, *, read_only: bool) -> Connection:
    rows: Any = dict_row
    connection: Any = psycopg.connect(url, row_factory=rows, application_name="tallystick-verify")
    if not read_only:
        connection.autocommit = True
        connection.execute("select pg_advisory_lock(hashtext('ledger.verified'))")
        connection.autocommit = False
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = read_only
    return connection


def verify_in(
    connection: Connection, ledger: str | None, keys: Keys, *, full: bool, remember: bool = False
) -> Report:
    """Verify in the transaction of `connection`, whose rows are dicts and whose snapshot stands."""
    report = Report(full=full, remedies=CHECKED)
    for row in connection.execute(_TABLES, [list(IGNORED_SCHEMAS)]).fetchall():
        report.tables.append(row["name"])
        if row["name"] not in CHECKED:
            message = "tally verify has no check for it"
            report.add(row["name"], "", "table_without_check", message)
    heads = connection.execute(
        "select h.ledger, h.seq, h.root, h.recorded_at, coalesce(v.seq, 0) as verified, "
        "least(coalesce(p.seq, 0), h.seq) as followed, "
        "coalesce(v.history_seq, 0) as followed_before "
        "from ledger.head h left join ledger.verified v using (ledger) "
        "left join ledger.projection p on p.ledger = h.ledger and p.name = %s order by h.ledger",
        [HISTORY.name],
    )
    for head in heads.fetchall():
        if ledger in (None, head["ledger"]):
            _ledger(connection, report, head, keys, remember=remember)
    if ledger is not None and ledger not in report.ledgers:
        report.add("ledger.head", ledger, "ledger_not_open", "there is no such ledger")
    if full:
        for check in SHARED_CHECKS:
            check.run(connection, report)
    return report


def _ledger(
    connection: Connection, report: Report, head: Row, keys: Keys, *, remember: bool
) -> None:
    name = head["ledger"]
    after, followed_before = (0, 0) if report.full else (head["verified"], head["followed_before"])
    followed = head["followed"]
    scope = Scope(connection, report, keys, name, head, after, followed, followed_before)
    for check in CHECKS:
        check.run(scope)
    report.ledgers[name] = head["seq"]
    if remember and report.is_ledger_sound(name):
        position.remember(scope)
    # Last: a witness that is away says nothing against what was read, which is not read again for it.
    signatures.check_cosigned(scope)
