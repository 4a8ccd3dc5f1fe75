"""A record's headers say the same wherever they stand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_service.contract import topics

WRITTEN = topics.headers(
    source="books", seq=7, event_type="hold.placed", time="2026-07-01T12:00:00Z", subject="books"
)
SAID = (7, b"tallystick.hold.placed.v1", b"2026-07-01T12:00:00Z")


def test_what_the_relay_wrote_is_read_where_it_stands():
    assert topics.stated(WRITTEN) == SAID


@given(st.permutations(WRITTEN), st.lists(st.tuples(st.text(), st.binary()), max_size=3))
def test_in_any_order_and_among_others_it_is_found(headers, others):
    named = {name for name, _ in WRITTEN}
    assert topics.stated([*headers, *(one for one in others if one[0] not in named)]) == SAID


@pytest.mark.parametrize("seq", [None, "7", b"", b"-7", b"7.0", b"9" * 19, b"seven"])
def test_a_seq_that_is_none_is_none(seq):
    headers = [(name, seq if name == "ts_seq" else value) for name, value in WRITTEN]
    assert topics.stated(headers) == (None, *SAID[1:])


@given(st.dictionaries(st.sampled_from([name for name, _ in WRITTEN]), st.none() | st.binary()))
def test_it_is_what_a_dictionary_of_them_says(named):
    seq, kind, time = topics.stated([*named.items()])
    assert seq == topics.seq_of(named)
    assert (kind, time) == (named.get("ce_type") or b"", named.get("ce_time") or b"")
