"""Any event that the contract's types and forms allow, for property tests."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from ledger_service.contract.events import timestamp
from ledger_service.contract.forms import DAY, MOMENT
from ledger_service.contract.schemas import JOURNAL_EVENTS, STREAM_EVENTS

_OPEN = st.text(st.characters(codec="utf-8"), max_size=20)


def any_event() -> st.SearchStrategy[Any]:
    """An event of the journal or of a stream."""
    of_streams = [
        _struct(event, stream=st.just(stream))
        for stream, several in STREAM_EVENTS.items()
        for event in several
    ]
    return st.one_of(*map(_struct, JOURNAL_EVENTS), *of_streams)


def _struct(cls: type[msgspec.Struct], **given: Any) -> st.SearchStrategy[Any]:
    fields: Any = inspect.type_info(cls).fields  # type: ignore[attr-defined]
    needed = {f.name: _value(f.type) for f in fields if f.required}
    optional = {f.name: _value(f.type) for f in fields if not f.required and f.name != "v"}
    return st.fixed_dictionaries({**needed, **given}, optional=optional).map(lambda one: cls(**one))


def _value(kind: Any, form: dict[str, Any] | None = None) -> st.SearchStrategy[Any]:
    if isinstance(kind, inspect.Metadata):
        return _value(kind.type, kind.extra_json_schema)
    makers: dict[type[inspect.Type], Any] = {
        inspect.UnionType: lambda: st.one_of(*map(_value, kind.types)),
        inspect.ListType: lambda: st.lists(_value(kind.item_type), min_size=1, max_size=3),
        inspect.DictType: lambda: st.dictionaries(_OPEN, _value(kind.value_type), max_size=3),
        inspect.StructType: lambda: _struct(kind.cls),
        inspect.LiteralType: lambda: st.sampled_from(kind.values),
        inspect.IntType: lambda: st.integers(*map((form or {}).get, ("minimum", "maximum"))),
        inspect.BoolType: st.booleans,
        inspect.NoneType: st.none,
        inspect.StrType: lambda: _text(form or {}),
    }
    return makers[type(kind)]()


def _text(form: dict[str, Any]) -> st.SearchStrategy[str]:
    pattern = form.get("pattern")
    if pattern == MOMENT:
        return st.datetimes(timezones=st.just(dt.UTC)).map(timestamp)
    if pattern == DAY:
        return st.dates().map(dt.date.isoformat)
    if pattern is None:
        return _OPEN
    longest = form.get("maxLength", 10**6)
    return st.from_regex(pattern.removesuffix("$") + r"\Z").filter(
        lambda text: len(text) <= longest
    )
