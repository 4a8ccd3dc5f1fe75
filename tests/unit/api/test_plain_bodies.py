"""What is read without an object between leads to the same message, or is left to the long way."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import example, given, settings

from ledger_service.api import posting_bodies
from ledger_service.api.problems import Problem

plain_bodies = pytest.importorskip(
    "ledger_service.api.plain_bodies", reason="takes a C compiler at installation"
)
CALLER = ("books", "key_1", "12345678-1234-1234-1234-123456789012")

texts = st.one_of(
    st.sampled_from(
        ("customer:1:wallet", "USD", "5", "", "x" * 31, "x" * 32, "y" * 255, "z" * 256)
    ),
    st.text(st.characters(max_codepoint=0x100), max_size=4),
)
entries = st.fixed_dictionaries(
    {"account": texts, "side": st.sampled_from(("debit", "credit", "left")), "amount": texts,
     "currency": texts},
    optional={"note": texts},
)  # fmt: skip
bodies = st.fixed_dictionaries(
    {"idempotency_key": texts, "kind": texts, "entries": st.lists(entries, max_size=17)},
    optional={
        "effective_at": st.none() | texts, "metadata": st.dictionaries(texts, texts, max_size=1),
        "dry_run": st.booleans(), "amount": texts,
    },
)  # fmt: skip


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """A body as somebody may write it: fields in any order, blanks, escapes; at times damaged."""

    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shuffled(value[key]) for key in draw(st.permutations(sorted(value)))}
        return [shuffled(one) for one in value] if isinstance(value, list) else value

    written = json.dumps(
        shuffled(draw(bodies)),
        indent=draw(st.sampled_from((None, None, 1, "\t"))),
        separators=draw(st.sampled_from(((",", ":"), (", ", " : ")))),
        ensure_ascii=draw(st.booleans()),
    ).encode()
    raw = bytearray(written)
    for _ in range(draw(st.sampled_from((0, 0, 1)))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 1))] = draw(st.binary(max_size=1))
    return bytes(raw)


def long_way(raw: bytes) -> bytes | None:
    try:
        body = posting_bodies.decode(raw, posting_bodies.TransactionBody)
        return msgspec.msgpack.encode(body.command(*CALLER))
    except Problem:
        return None


def plain(key: str = "k", size: int = 2, gap: str = "") -> bytes:
    entry = '{"account":"customer:1:wallet","side":"debit","amount":"5","currency":"USD"}'
    many = f",{gap}".join([entry] * size)
    return f'{gap}{{"idempotency_key":{gap}"{key}","kind":"fee"{gap},"entries":[{many}]}}'.encode()


@settings(max_examples=300, deadline=None)
@given(documents())
@example(b'{"kind":"a","kind":"b","idempotency_key":"k","entries":[]}')
@example(plain() + b" ")
@example(plain() + b"x")
@example(plain().replace(b'"fee"', b'"fee","kind":"fee"'))
@example(plain().replace(b'"amount":"5"', b'"side":"debit"'))
@example(plain().replace(b"USD", b"US\\u0044"))
def test_a_message_is_that_of_the_long_way(raw: bytes) -> None:
    message = plain_bodies.PlainBodies(*CALLER).read(raw)
    assert message is None or message == long_way(raw)


@pytest.mark.parametrize(
    "raw", [plain(), plain("k" * 255), plain(size=1), plain(size=15), plain(gap=" \n\t\r")]
)
def test_what_is_plain_is_read(raw: bytes) -> None:
    assert plain_bodies.PlainBodies(*CALLER).read(raw) == long_way(raw) is not None


@pytest.mark.parametrize("raw", [plain(""), plain("k" * 256), plain(size=0), plain(size=16), b""])
def test_what_is_not_is_left(raw: bytes) -> None:
    assert plain_bodies.PlainBodies(*CALLER).read(raw) is None
