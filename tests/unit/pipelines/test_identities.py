import duckdb

from pipelines.checks.identities import check_identities


def test_an_identity_that_cannot_be_looked_at_has_failed():
    with duckdb.connect(":memory:") as connection:
        # Sums of an earlier look stand for nothing.
        connection.execute(
            "create temporary table summed_entries as "
            "select 'one' as ledger, 'USD' as currency, 1 as debits, 1 as credits"
        )
        found = check_identities(connection)
    assert len(found) == 6
    for one in found:
        assert not one.check.passed, one
        assert one.check.detail.startswith("error: "), one
