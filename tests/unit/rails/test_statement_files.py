"""BAI2 and camt.053: what is written is read back, and what was changed on the way is refused."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_service.rails.statements import bai2, bai2_writer, camt053, formats
from ledger_service.rails.statements.bank_codes import _CODES, bank_code
from ledger_service.rails.statements.model import Line, Statement, StatementError

NOW = dt.datetime(2026, 7, 2, 6, 30, tzinfo=dt.UTC)
DAY = dt.date(2026, 7, 1)
NUMBERS = st.from_regex(r"[A-Z0-9]{4,20}", fullmatch=True)
WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z", "S"), include_characters=" ,-&<>"),
    max_size=60,
)
TEXTS = st.lists(WORDS.map(lambda text: text.strip(" /")), max_size=3).map(
    lambda parts: "\n".join(part for part in parts if part)
)


@st.composite
def statements(draw, format_: formats.Format):
    def lines():
        channel, side = draw(st.sampled_from(sorted(_CODES)))
        return Line(
            side=side,
            amount=draw(st.integers(1, 10**15)),
            value_date=draw(st.dates(dt.date(2020, 1, 1), dt.date(2050, 1, 1))),
            bank_code=bank_code(format_, channel, side),
            reference=draw(
                st.none() | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,20}[A-Z]", fullmatch=True)
            ),
            text=draw(TEXTS),
        )

    day = draw(st.dates(dt.date(2001, 1, 1), dt.date(2090, 1, 1)))
    return [
        Statement(
            account_number=draw(NUMBERS),
            currency=draw(st.sampled_from(["USD", "JPY", "KWD"])),
            statement_date=day,
            opening_balance=draw(st.none() | st.integers(-(10**15), 10**15)),
            closing_balance=draw(st.none() | st.integers(-(10**15), 10**15)),
            lines=tuple(lines() for _ in range(draw(st.integers(0, 4)))),
        )
        for _ in range(draw(st.integers(1, 3)))
    ]


@settings(max_examples=50, deadline=None)
@given(statements("bai2"))
def test_bai2_round_trip(wanted):
    raw = bai2_writer.write(wanted, sender="BANK", receiver="US", created=NOW)
    assert formats.read(raw) == ("bai2", wanted)


@settings(max_examples=50, deadline=None)
@given(statements("camt.053"))
def test_camt053_round_trip(wanted):
    raw = camt053.write(wanted, message_id="m-1", created=NOW)
    assert formats.read(raw) == ("camt.053", wanted)


def _example() -> list[Statement]:
    lines = (
        Line("credit", 150_000, DAY, "142", "pay.7KQ", "PAYROLL ACME, INC / JULY"),
        Line("debit", 2_599, dt.date(2026, 7, 2), "699", "card-19", ""),
    )
    return [Statement("FBO-77", "USD", DAY, 1_000_000, 1_147_401, lines)]


def test_every_changed_digit_of_an_amount_is_found_in_bai2():
    raw = bai2_writer.write(_example(), sender="BANK", receiver="US", created=NOW).decode()
    amounts = [
        *re.finditer(
            r"(?<=010,)\d+|(?<=015,)\d+|(?<=^16,142,)\d+|(?<=^16,699,)\d+", raw, re.MULTILINE
        ),
        *re.finditer(r"(?<=^49,)\d+|(?<=^98,)\d+|(?<=^99,)\d+", raw, re.MULTILINE),
    ]
    assert len(amounts) == 7
    for found in amounts:
        for place in range(*found.span()):
            changed = raw[:place] + str((int(raw[place]) + 1) % 10) + raw[place + 1 :]
            with pytest.raises(StatementError) as refused:
                bai2.read(changed.encode())
            assert refused.value.code == "control_differs"
            assert refused.value.line


def test_a_line_that_is_lost_or_doubled_is_found():
    lines = (
        bai2_writer.write(_example(), sender="B", receiver="U", created=NOW).decode().splitlines()
    )
    for index in range(len(lines)):
        for changed in (
            lines[:index] + lines[index + 1 :],
            [*lines[:index], lines[index], *lines[index:]],
        ):
            with pytest.raises(StatementError):
                formats.read("\n".join(changed).encode())
    entry = re.compile(rb"\n<Ntry>.*</Ntry>")
    message = camt053.write(_example(), message_id="m", created=NOW)
    for changed in (
        entry.sub(b"", message, count=1),
        entry.sub(lambda m: m[0] * 2, message, count=1),
    ):
        with pytest.raises(StatementError) as refused:
            camt053.read(changed)
        assert refused.value.code == "control_differs"


def test_records_on_one_line_padded_or_with_carriage_returns_are_the_same_file():
    raw = bai2_writer.write(_example(), sender="B", receiver="U", created=NOW).decode()
    wanted = bai2.read(raw.encode())
    ended = [line if line.endswith("/") else line + "/" for line in raw.splitlines()]
    assert bai2.read("".join(ended).encode()) == wanted
    assert bai2.read("".join(line.ljust(80) for line in ended).encode()) == wanted
    assert bai2.read("\r\n".join(ended).encode()) == wanted
    assert bai2.read(("\ufeff" + "\r".join(ended)).encode()) == wanted


def test_funds_types_continuations_and_february_the_thirtieth():
    body = (
        "03,123,,010,500,,S,1,2,3,015,600,2,D,2,0,50,1,50/",
        "88,100,100,1,0/",
        "16,195,60,V,260230,1200,bankref,custref,words, with / slash",
        "88,and more",
        "16,475,40,D,1,1,40,,,/",
        "16,890,,,,,a note/",
    )
    total = 500 + 600 + 100 + 60 + 40
    raw = "\n".join(
        (
            "01,A,B,260301,0600,1,,,2/",
            "02,B,A,1,260228,2400,USD,2/",
            *body,
            f"49,{total},{len(body) + 1}/",
            f"98,{total},1,{len(body) + 3}/",
            f"99,{total},1,{len(body) + 5}/",
        )
    )
    [statement] = bai2.read(raw.encode())
    assert (statement.opening_balance, statement.closing_balance) == (500, 600)
    wire, check = statement.lines
    assert wire.value_date == dt.date(2026, 2, 28)
    assert (wire.side, wire.reference, wire.text) == (
        "credit",
        "custref",
        "words, with / slash\nand more",
    )
    assert (check.side, check.amount, check.reference) == ("debit", 40, None)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "unknown_format"),
        (b"01,A,B,260301,0600,1,,,3/", "unknown_version"),
        (b"01,A,B,260301,0600,1,,,2/\n16,142,5/", "misplaced_record"),
        (b"01,A,B,260301,0600,1,,,2/\nhello", "unknown_record"),
        (b"01,A,B,261301,0600,1,,,2/", "bad_date"),
        (b"01,A,B,260301,0600,1,,,2/\n02,B,A,1,260301,,,/\n03,1,XXX/", "unknown_currency"),
        (b"01,A,B,260301,0600,1,,,2/\n02,B,A,1,260301,,,/\n03,1,,010,1.50,,/", "bad_amount"),
        (b"01,A,B,260301,0600,1,,,2/\n02,B,A,1,260301,,,/", "incomplete_file"),
        (
            b"01,A,B,260301,0600,1,,,2/\n02,B,A,4,260301,,,/\n98,0,0,2/\n99,0,1,4/",
            "group_not_final",
        ),
        (b"<a", "not_xml"),
        (b"<a/>", "not_camt053"),
        (b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a>&x;</a>', "doctype_refused"),
    ],
)
def test_what_is_no_statement_is_refused_by_name(raw, code):
    with pytest.raises(StatementError) as refused:
        formats.read(raw)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [
        ('<Amt Ccy="USD">25.99</Amt>', '<Amt Ccy="USD">25.995</Amt>', "not_whole_minor_units"),
        ('<Amt Ccy="USD">25.99</Amt>', '<Amt Ccy="EUR">25.99</Amt>', "entry_currency_differs"),
        ('<Amt Ccy="USD">25.99</Amt>', '<Amt Ccy="USD">25.98</Amt>', "control_differs"),
        ("<ValDt><Dt>2026-07-02", "<ValDt><Dt>2026-02-30", "bad_date"),
        ("<Id><Othr><Id>FBO-77</Id></Othr></Id>", "<Id/>", "no_account_number"),
        ("<CdtDbtInd>DBIT", "<CdtDbtInd>MAYBE", "bad_side"),
    ],
)
def test_a_camt053_that_lies_is_refused_by_name(before, after, code):
    raw = camt053.write(_example(), message_id="m", created=NOW).decode()
    assert before in raw
    with pytest.raises(StatementError) as refused:
        camt053.read(raw.replace(before, after).encode())
    assert refused.value.code == code
