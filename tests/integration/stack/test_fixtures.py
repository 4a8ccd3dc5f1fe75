"""The shared fixtures give what other rooms' tests rely on."""

from __future__ import annotations

import psycopg
import pytest
from temporalio.client import Client

from ledger_service.stack import logins


def test_each_test_has_a_migrated_database_of_its_own(postgres, ledger_database):
    with psycopg.connect(ledger_database.owner_url) as connection:
        assert connection.execute("select count(*) from ledger_migrations").fetchone() == (1,)
        assert connection.execute("select current_user").fetchone() == (logins.OWNER,)
    with psycopg.connect(postgres.admin_url) as connection:
        assert connection.execute("show fsync").fetchone() == ("off",)


@pytest.mark.parametrize("role", ["writer", "api", "relay", "worker"])
def test_a_role_has_the_rights_of_its_group_and_no_more(ledger_database, role):
    with psycopg.connect(ledger_database.url(role)) as connection:
        connection.execute("select count(*) from stream.event")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("truncate stream.event")


def test_the_monitor_sees_its_own_schema_only(ledger_database):
    with psycopg.connect(ledger_database.url("monitor"), autocommit=True) as connection:
        connection.execute("create table monitoring.probe (id int)")
        for statement in ("select * from stream.event", "create table public.probe (id int)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


async def test_temporal_answers(temporal):
    client = await Client.connect(temporal)
    assert client.namespace == "default"
    assert await client.count_workflows() is not None
