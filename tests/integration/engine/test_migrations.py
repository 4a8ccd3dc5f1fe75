"""A database of an earlier version, full of books, brought to the newest: nothing it states changes.

The books are written by the real writer into a database of the newest version; what an earlier
version can hold of them is copied into a database of that version, before it is brought up. So
afterwards it must equal the one that was never old, and the writer must go on in it. A new migration
is tested by this as it is. The last release and the version before the newest are brought up;
EXAMPLES=1 (`make test-history`) brings up all in between.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import psycopg
import psycopg.conninfo
import pytest
from alembic.script import ScriptDirectory

from ledger_service import migrations
from ledger_service.domain.commands import OpenAccount, approval_of
from ledger_service.engine import as_of, checkpoints
from ledger_service.engine.protocol import Committed
from ledger_service.engine.verify import Keys, verify, verify_new
from ledger_service.engine.writer import LedgerWriter
from ledger_service.migrations.cli import upgrade
from ledger_service.stack import database, logins
from tests.asking import Ask
from tests.integration.engine.conftest import approve, follow, local_writer, make_checker
from tests.integration.engine.populated import LOG
from tests.integration.engine.test_writer import submit
from tests.ledger_book import OPENING, command_of
from tests.servers import TEMPLATE, LedgerDatabase, Postgres

RELEASED = "0007"
"""Of the last release: the oldest version that is brought up."""
A, B, FBO = "customer:1:wallet", "customer:2:wallet", "bank:fbo"
LONG_AGO = (dt.datetime.now(dt.UTC) - dt.timedelta(days=40)).date()
MANY = 300
PLAIN = [
    *(Ask(f"in{number}", "post", [(FBO, 10), (A, -10)]) for number in range(MANY)),
    Ask("late", "post", [(A, 7), (B, -7)], effective_at=f"{LONG_AGO}T16:00:00.000000Z"),
    Ask("undo", "reverse", of=9, amount=4, approval="apr_1", reversal="rev_1"),
    Ask("fee", "post", [(B, 50), (FBO, -50)], imposed=True),
    Ask("shut", "status", account=B, status="debits_frozen"),
]
"""From seq 7 to 310."""
HOLDS = [
    Ask("hold", "hold", [(A, 60), (B, -60)]),
    Ask("kept", "hold", [(A, 9), (B, -9)], expires_at="2999-01-01T00:00:00.000000Z"),
    Ask("some", "capture", of=311, amount=25, ends_hold=False),
    Ask("gone", "hold", [(A, 5), (B, -5)]),
    Ask("void", "void", of=314),
    Ask("month", "close", day=LONG_AGO.isoformat()),
]
BOOKS = {"plain": ("ledger.journal", PLAIN), "holding": ("ledger.hold", [*PLAIN, *HOLDS])}
"""By ledger: the table without which a version can't hold it, and what was asked of it."""
BESIDE = ("security.person", "security.session", "security.approval")
SIGNED = Keys(checkpoints.public_bytes(LOG), b"")


def _versions() -> list[str]:
    folder = ScriptDirectory(str(Path(migrations.__file__).parent))
    older = [step.revision for step in folder.walk_revisions(RELEASED, "head")][1:]
    return older if "EXAMPLES" in os.environ else sorted({older[0], older[-1]})


# --- the books ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def never_old(postgres: Postgres, _migrated: str) -> Iterator[LedgerDatabase]:
    """The newest version, with every book written by its writer."""
    found = LedgerDatabase(postgres.create_database("never_old", template=_migrated))
    with psycopg.connect(found.owner_url, autocommit=True) as owner:
        make_checker(owner)
        for ledger, (_, asks) in BOOKS.items():
            asyncio.run(_keep(found, owner, ledger, asks))
    yield found
    postgres.drop_database("never_old")


async def _keep(
    found: LedgerDatabase, owner: psycopg.Connection, ledger: str, asks: Sequence[Ask]
) -> None:
    async with local_writer(found, ledger) as writer:
        accounts = [OpenAccount(name, "USD", "key_test", None, "0") for name in (A, B)]
        opening = msgspec.structs.replace(OPENING, ledger=ledger)
        await submit(writer, opening, *accounts, OpenAccount(FBO, "USD", "key_test"))
        await submit(writer, *(command_of(ask, ledger) for ask in asks[:MANY]))
        for ask in asks[MANY:]:
            if ask.do == "close":
                await follow(found, ledger)
            verdict = await _carry_out(writer, owner, ask)
            assert isinstance(verdict, Committed), (ask, verdict)
    await follow(found, ledger)

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(found.url("writer"))

    await checkpoints.Publisher(LOG, "log.test").publish(connect, ledger)


async def _carry_out(writer: LedgerWriter, owner: psycopg.Connection, ask: Ask) -> Any:
    if ask.approval:
        ask = msgspec.structs.replace(ask, approval=f"{ask.approval}_{writer.ledger}")
    command = command_of(ask, writer.ledger)
    if needed := approval_of(writer.ledger, command):
        approve(owner, *needed)
    [verdict] = await submit(writer, command)
    return verdict


# --- an earlier version -------------------------------------------------------------------------


@pytest.fixture(params=_versions())
def old(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[LedgerDatabase]:
    """A database of an earlier version, empty."""
    name = f"version_{request.param}"
    found = LedgerDatabase(postgres.create_database(name))
    passwords = dict.fromkeys([*logins.ROLES, logins.MONITOR], "login")
    database.create_logins(found.owner_url, TEMPLATE, passwords)
    upgrade(found.owner_url, request.param)
    yield found
    postgres.drop_database(name)


def _tables(connection: psycopg.Connection) -> list[str]:
    """The ledger's tables, without partitions and without who writes at the moment."""
    rows = connection.execute(
        "select c.oid::regclass::text from pg_class c where relkind in ('r', 'p') "
        "and not relispartition and relnamespace = 'ledger'::regnamespace order by 1"
    ).fetchall()
    return [name for (name,) in rows if name != "ledger.lease"]


def _columns(connection: psycopg.Connection, table: str) -> list[str]:
    rows = connection.execute(
        "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 "
        "and not attisdropped and attidentity = '' order by attnum",
        [table],
    ).fetchall()
    return [name for (name,) in rows]


def _copy_back(here: psycopg.Connection, there: psycopg.Connection, ledgers: list[str]) -> None:
    """Into an earlier version what it can hold: of its tables, the columns that are still there."""
    there.execute("set session_replication_role = replica")
    for table in [*_tables(there), *BESIDE]:
        new = _columns(here, table)
        names = ", ".join(name for name in _columns(there, table) if name in new)
        which = "" if table in BESIDE else f"where ledger in ({', '.join(map(repr, ledgers))})"
        with (
            here.cursor().copy(f"copy (select {names} from {table} {which}) to stdout") as rows,
            there.cursor().copy(f"copy {table} ({names}) from stdin") as copy,
        ):
            for block in rows:
                copy.write(block)
    there.commit()


def _held_by(connection: psycopg.Connection) -> list[str]:
    tables = _tables(connection)
    return [ledger for ledger, (table, _) in BOOKS.items() if table in tables]


# --- what must not change -----------------------------------------------------------------------


def _stated(connection: psycopg.Connection, ledgers: list[str]) -> dict[str, list[tuple]]:
    """What the oldest version states too: heads, sums, balances, keys, entries, the journal."""
    questions = {
        "heads": "select ledger, seq, root from ledger.head where ledger = any(%s) order by 1",
        "journal": "select ledger, count(*), sha256(string_agg(bytes, '' order by seq)) "
        "from ledger.journal where ledger = any(%s) group by 1 order by 1",
        "balances": "select ledger, number, debits, credits from ledger.balance "
        "where ledger = any(%s) order by 1, 2",
        "trial balance": "select ledger, sum(debits), sum(credits) from ledger.balance "
        "where ledger = any(%s) group by 1 order by 1",
        "keys": "select ledger, seq, digest from ledger.idempotency where ledger = any(%s) "
        "order by 1, 2",
    }
    return {name: connection.execute(sql, [ledgers]).fetchall() for name, sql in questions.items()}


def _rows(connection: psycopg.Connection, table: str, ledgers: list[str]) -> list[tuple]:
    """Of a table as it stands; of posting lists the entries, in however many rows they are."""
    source, names = table, ", ".join(_columns(connection, table))
    if table == "ledger.posting_list":
        names = "ledger, number, u.*"
        source = f"{table}, unnest(seqs, entry_nos, amounts, effective_dates) as u"
    sql = f"select {names} from {source} where ledger = any(%s)"
    return sorted(connection.execute(sql, [ledgers]).fetchall(), key=repr)


async def _asked(owner_url: str, ledger: str) -> list[Any]:
    """Balances and trial balances at points on both clocks."""
    connection = await asyncpg.connect(owner_url)
    seq = await connection.fetchval("select seq from ledger.head where ledger = $1", ledger)
    answers: list[Any] = []
    for known in (9, 306, 308, seq):
        for day in (LONG_AGO, LONG_AGO - dt.timedelta(days=1), dt.date(2999, 1, 1)):
            at = await as_of.resolve(connection, ledger, known, effective_date=day)
            answers.append([row async for row in as_of.balances(connection, ledger, at)])
            lines = await as_of.trial_balance(connection, ledger, at)
            answers.append([tuple(line) for line in lines])
    await connection.close()
    return answers


def _findings(found: LedgerDatabase) -> list[str]:
    report = verify(found.owner_url, None, full=True, keys=SIGNED)
    return [str(one) for one in report.findings if one.ledger]


async def _goes_on(found: LedgerDatabase, ledger: str, asks: Sequence[Ask]) -> None:
    """Every key still gives its first answer, and new ones the next."""
    with psycopg.connect(found.owner_url, autocommit=True) as owner:
        async with local_writer(found, ledger) as writer:
            for place, ask in list(enumerate(asks, 7))[::37]:
                verdict = await _carry_out(writer, owner, ask)
                assert (verdict.seq, verdict.replayed) == (place, True)
            new = await _carry_out(writer, owner, Ask("new", "post", [(FBO, 1), (A, -1)]))
            assert (new.seq, new.replayed) == (7 + len(asks), False)
    await follow(found, ledger)


def test_books_of_an_earlier_version_state_the_same_in_the_newest(
    old: LedgerDatabase, never_old: LedgerDatabase, postgres: Postgres
) -> None:
    superuser = psycopg.conninfo.make_conninfo(
        postgres.admin_url, dbname=old.owner_url.rpartition("/")[2]
    )
    with psycopg.connect(never_old.owner_url) as here, psycopg.connect(superuser) as there:
        ledgers = _held_by(there)
        _copy_back(here, there, ledgers)
        before = _stated(there, ledgers)
        assert before == _stated(here, ledgers)
        there.commit()
        upgrade(old.owner_url)
        assert _stated(there, ledgers) == before
        there.commit()
        for ledger in ledgers:
            asyncio.run(follow(old, ledger))
        for table in _tables(here):
            if "ledger" in _columns(here, table):
                assert _rows(there, table, ledgers) == _rows(here, table, ledgers), table
    assert _findings(old) == []
    assert [one for one in verify_new(old.url("verifier")).findings if one.ledger] == []
    for ledger in ledgers:
        asked = [asyncio.run(_asked(one.owner_url, ledger)) for one in (old, never_old)]
        assert asked[0] == asked[1]
        asyncio.run(_goes_on(old, ledger, BOOKS[ledger][1]))
    assert _findings(old) == []
