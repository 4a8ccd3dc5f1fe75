"""A mapping, a file, and what becomes of each row: without any server."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal, localcontext

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_service.contract.identifiers import looks_personal
from ledger_service.loading.errors import LoadError
from ledger_service.loading.mapping import load_mapping
from ledger_service.loading.names import KeyedNames, base32, letters
from ledger_service.loading.plan import EXACT, Planner, Rejected, Transfer
from ledger_service.loading.record import LoadRecord
from ledger_service.loading.source import Source
from ledger_service.loading.survey import reasons, survey

MAPPING = {
    "name": "hand_written",
    "version": 1,
    "ledger": "hand",
    "currency": "USD",
    "rounding": "half_even",
    "columns": {
        "time": "day",
        "amount": "sum",
        "origin": "from",
        "destination": "to",
        "kind": "what",
    },
    "time": {"unit": "day", "base": dt.date(2026, 1, 1)},
    "accounts": {"template": "customer:{id}:main"},
    "outside": {"pays_in": "IN", "is_paid": "OUT"},
    "kinds": {
        "pay": {
            "in": {"kind": "payroll", "channel": "ach"},
            "internal": {"kind": "transfer", "channel": "internal"},
            "out": {"kind": "card_purchase", "channel": "card"},
        },
        "cash": {"only_origin": "in", "in": {"kind": "cash_deposit", "channel": "cash"}},
    },
    "stated_balances": {"origin": "left", "destination": "right"},
    "ignored": ["label"],
}
HEADER = "day,sum,from,to,what,left,right,label"


def _mapping(tmp_path, **changes):
    path = tmp_path / "mapping.yaml"
    path.write_text(yaml.safe_dump({**MAPPING, **changes}))
    return load_mapping(str(path))[0]


def _plan(tmp_path, *rows: str, **changes):
    path = tmp_path / "rows.csv"
    path.write_text("\n".join((HEADER, *rows)) + "\n")
    mapping = _mapping(tmp_path, **changes)
    planner = Planner(mapping, lambda source_id: source_id)
    return list(planner.plan(Source(path).rows(mapping.used_columns())))


def test_directions_times_and_kinds(tmp_path):
    paid, bought, sent, cash = _plan(
        tmp_path,
        "0,10.00,IN,7,pay,,,1",
        "1,2.50,7,OUT,pay,7.50,,1",
        "1,1,7,8,pay,6.50,1.00,1",
        "2,5,8,teller,cash,6,,1",
    )
    assert all(isinstance(one, Transfer) for one in (paid, bought, sent, cash))
    assert (paid.origin, paid.destination, paid.kind) == (None, "customer:7:main", "payroll")
    assert (bought.origin, bought.destination, bought.channel) == ("customer:7:main", None, "card")
    assert (sent.origin, sent.destination) == ("customer:7:main", "customer:8:main")
    assert (cash.origin, cash.destination, cash.channel) == (None, "customer:8:main", "cash")
    assert [one.amount for one in (paid, bought, sent, cash)] == [1000, 250, 100, 500]
    assert paid.effective_at.isoformat() == "2026-01-01T12:00:00-05:00"
    assert cash.stated == (("customer:8:main", "6"),)
    assert sent.stated == (("customer:7:main", "6.50"), ("customer:8:main", "1.00"))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("0,10", "malformed_row"),
        ("0,,IN,7,pay,,,", "missing_value"),
        ("0,ten,IN,7,pay,,,", "bad_amount"),
        ("0,NaN,IN,7,pay,,,", "bad_amount"),
        ("0,-5,IN,7,pay,,,", "negative_amount"),
        ("0,0.00,IN,7,pay,,,", "zero_amount"),
        ("0,0.004,IN,7,pay,,,", "rounds_to_zero"),
        ("0,9.3e16,IN,7,pay,,,", "amount_too_large"),
        ("soon,5,IN,7,pay,,,", "bad_time"),
        ("0,5,IN,7,gift,,,", "unmapped_kind"),
        ("0,5,IN,7 8,pay,,,", "bad_account_id"),
        ("0,5,IN,078051120,pay,,,", "personal_data_refused"),
        ("0,5,7,7,pay,,,", "same_account"),
        ("0,5,IN,OUT,pay,,,", "outside_to_outside"),
    ],
)
def test_every_reason_for_the_quarantine(tmp_path, row, reason):
    fine, rejected = _plan(tmp_path, "0,5,IN,7,pay,,,", row)
    assert isinstance(fine, Transfer)
    assert isinstance(rejected, Rejected)
    assert (rejected.row, rejected.reason) == (2, reason)
    assert not looks_personal(json.dumps([rejected.detail, rejected.fields]))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.decimals(0, 10**15, places=16, allow_nan=False), min_size=1, max_size=30))
def test_sums_and_residual_are_exact(tmp_path_factory, amounts):
    rows = [f"0,{amount:f},IN,7,pay,,," for amount in amounts]
    planned = _plan(tmp_path_factory.mktemp("exact"), "0,1,IN,7,pay,,,", *rows)
    found = survey(planned)
    with localcontext(EXACT):
        total = sum(amounts, Decimal(1))
        assert found.accepted_source + found.rejected_source == total
        assert found.accepted_minor + found.residual == found.accepted_source * 100
    assert found.accepted + len(found.rejected) == len(amounts) + 1
    assert set(reasons(found.rejected)) <= {"zero_amount", "rounds_to_zero"}
    assert abs(found.residual) * 2 <= found.accepted


def test_the_last_row_of_a_day_states_its_balance(tmp_path):
    found = survey(
        _plan(
            tmp_path,
            "0,9,IN,7,pay,,9,",
            "0,2,7,OUT,pay,7,,",
            "0,1,7,8,pay,6,1,",
            "1,1,8,OUT,pay,0,,",
        )
    )
    first, second = dt.date(2026, 1, 1), dt.date(2026, 1, 2)
    seven, eight = "customer:7:main", "customer:8:main"
    assert found.stated == {(seven, first): "6", (eight, first): "1", (eight, second): "0"}


def test_amounts_without_exact_cents_refuse_the_whole_load(tmp_path):
    planned = _plan(tmp_path, "0,5,IN,7,pay,,,", "0,5.001,IN,7,pay,,,", rounding="reject")
    with pytest.raises(LoadError, match=r"1 of 2 amounts.*row 2.*half_even") as refused:
        survey(planned)
    assert refused.value.code == "not_whole_minor_units"


def test_a_parquet_double_is_its_shortest_decimal_and_csv_its_text(tmp_path):
    path = tmp_path / "rows.parquet"
    columns = {
        "day": [0, 0],
        "sum": [0.1 + 0.2, 1e-05],
        "from": [1, 1],
        "to": [2, 2],
        "what": ["p", "q"],
    }
    pq.write_table(pa.table(columns), path)
    assert list(Source(path).rows(["sum", "from", "what"])) == [
        (1, ["0.30000000000000004", "1", "p"]),
        (2, ["1e-05", "1", "q"]),
    ]
    path = tmp_path / "rows.csv"
    path.write_text('\ufeffa,b\r\n"1,5",2\r\n\r\n3\r\n4,5\r\n')
    assert list(Source(path).rows(["b", "a"])) == [(1, ["2", "1,5"]), (2, None), (3, ["5", "4"])]


def test_files_that_are_none(tmp_path):
    binary, empty, table = tmp_path / "binary", tmp_path / "empty", tmp_path / "table.csv"
    binary.write_bytes(b"PAR1 not really")
    empty.write_bytes(b"")
    table.write_text("a,b\n1,2\n")
    for path, code in ((binary, "not_csv_or_parquet"), (empty, "not_csv_or_parquet")):
        with pytest.raises(LoadError) as refused:
            Source(path)
        assert refused.value.code == code
    with pytest.raises(LoadError) as refused:
        Source(tmp_path / "absent.csv")
    assert refused.value.code == "no_such_file"
    with pytest.raises(LoadError, match="no column amount; it has a, b") as refused:
        Source(table).rows(["a", "amount"])
    assert refused.value.code == "missing_columns"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"currency": "XXX"}, "ISO 4217"),
        ({"currency": "POINTS"}, "'POINTS' is not an ISO 4217"),
        ({"accounts": {"template": "customer:main"}}, "lacks {id}"),
        ({"time": {"unit": "day"}}, "time.base"),
        ({"time_zone": "Mars/Olympus"}, "IANA"),
        ({"surprise": 1}, "surprise"),
        ({"kinds": {"pay": {}}}, "no direction"),
        ({"kinds": {"pay": {"in": {"kind": "gift", "channel": "ach"}}}}, "catalogue"),
        ({"outside": {"pays_in": "(", "is_paid": ""}}, "regular expression"),
    ],
)
def test_mappings_that_cant_be_used(tmp_path, changes, text):
    with pytest.raises(LoadError, match=text.replace("{", r"\{")) as refused:
        _mapping(tmp_path, **changes)
    assert refused.value.code == "bad_mapping"


def test_an_unknown_mapping_names_those_that_are_there():
    with pytest.raises(LoadError, match=r"amlgentex.*paysim") as refused:
        load_mapping("nobody")
    assert refused.value.code == "unknown_mapping"


def test_no_mapping_of_ours_reads_a_label():
    labels = {
        "issar",
        "patternid",
        "modeltype",
        "alertid",
        "is_sar",
        "alert_id",
        "isfraud",
        "isflaggedfraud",
    }
    for name in ("amlgentex", "amlsim_fanin", "amlsim_100acct", "paysim"):
        used = {column.lower() for column in load_mapping(name)[0].used_columns()}
        assert not used & labels


@given(st.integers(0, 32**7 - 1), st.text(max_size=20))
def test_names_never_look_personal(number, text):
    assert not looks_personal(f"{letters(text, 4)}.{base32(number)}")
    assert not looks_personal(letters(text, 12))


def test_keyed_names_are_kept_by_the_home(tmp_path):
    first, second = KeyedNames(tmp_path / "one"), KeyedNames(tmp_path / "two")
    assert first("C1231006815") == KeyedNames(tmp_path / "one")("C1231006815")
    assert first("C1231006815") != second("C1231006815")
    assert (tmp_path / "one/secrets/source_names").stat().st_mode & 0o777 == 0o600


def test_the_quarantine_masks_long_numbers(tmp_path):
    record = LoadRecord(tmp_path, "x")
    fields = {"amount": "078051120", "kind": "pay"}
    record.save_quarantine([{"row": 1, "reason": "bad_time", "detail": "", "fields": fields}])
    [line] = record.quarantine_path.read_text().splitlines()
    assert json.loads(line)["fields"] == {"amount": "[masked]", "kind": "pay"}
