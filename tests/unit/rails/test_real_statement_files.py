"""Statement files of other projects: what their own parsers say of them, and what we say."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from lxml import etree

from ledger_service.rails.statements import bai2, camt053, formats
from ledger_service.rails.statements.model import StatementError
from tests.unit.rails.test_statement_files import NOW, _example

pytestmark = pytest.mark.real_data

# Files that their origin's parser takes and we refuse: its control totals do not hold.
BROKEN_CONTROLS = {"bai2/bai2/testdata/sample4-continuations-newline-delimited.txt"}


def _expected(real_data, wanted):
    with (real_data / "bank_files" / "expected.jsonl").open() as lines:
        found = [row for row in map(json.loads, lines) if wanted(row)]
    assert found
    return found


def test_every_bai2_file(real_data):
    for row in _expected(real_data, lambda row: row["format"] == "bai2"):
        raw = (real_data / "bank_files" / row["file"]).read_bytes()
        file = bai2.parse(raw)
        expect = row["expect"]
        if expect["peer_accepts"]:
            accounts = [account for group in file.groups for account in group.accounts]
            assert len(file.groups) == expect["groups"]
            assert len(accounts) == expect["accounts"]
            assert sum(len(account.details) for account in accounts) == expect["details"]
            assert file.control is not None
            assert file.control.total == int(expect["controlTotal"])
        if row["file"] in BROKEN_CONTROLS:
            with pytest.raises(StatementError) as refused:
                bai2.read(raw)
            assert (refused.value.code, refused.value.line) == ("control_differs", 22)
        else:
            assert bai2.read(raw)


def test_every_camt053_file(real_data):
    rows = _expected(
        real_data,
        lambda row: "camt.053" in row["expect"].get("message", "") and "xsd" not in row["format"],
    )
    for row in rows:
        raw = (real_data / "bank_files" / row["file"]).read_bytes()
        expect = row["expect"]["statements"]
        if not expect:
            with pytest.raises(StatementError) as refused:
                formats.read(raw)
            assert refused.value.code == "no_statement"
            continue
        statements = camt053.read(raw)
        assert len(statements) == len(expect)
        for statement, one in zip(statements, expect, strict=True):
            assert len(statement.lines) == one["entries"]
            for side in ("credit", "debit"):
                total = sum(line.amount for line in statement.lines if line.side == side)
                assert Decimal(total) == Decimal(one[side]).scaleb(2)
            assert statement.opening_balance == Decimal(one["bal"]["OPBD"]).scaleb(2)
            change = sum(
                line.amount if line.side == "credit" else -line.amount for line in statement.lines
            )
            # A closing balance in another currency than the account's is none of the account's.
            rolls = statement.closing_balance == (statement.opening_balance or 0) + change
            assert rolls == one["rolls_forward"]


def test_other_messages_are_refused_by_name(real_data):
    rows = _expected(
        real_data,
        lambda row: (
            row["format"] in ("iso20022", "mt940")
            and "camt.053" not in row["expect"].get("message", "")
        ),
    )
    for row in rows:
        with pytest.raises(StatementError) as refused:
            formats.read((real_data / "bank_files" / row["file"]).read_bytes())
        assert refused.value.code in {"not_camt053", "unknown_format"}, row["file"]


def test_what_we_write_satisfies_the_published_schema(real_data):
    path = real_data / "bank_files/xsd/genkgo/assets/camt.053.001.08.xsd"
    schema = etree.XMLSchema(etree.parse(str(path)))
    schema.assertValid(
        etree.fromstring(camt053.write(_example(), message_id="fbo-2026-07-01", created=NOW))
    )
