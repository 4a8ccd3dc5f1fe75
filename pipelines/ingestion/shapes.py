"""What an event must look like, in DuckDB's words, derived from the contract's types.

Two layers, because DuckDB's JSON reader forgives: it reads 1.5 into a BIGINT as 2, a number into a
VARCHAR, and a missing field as NULL. So the JSON *types* of all fields are looked at first, and
only what is exactly right is read into columns; then the *values* (amounts, dates, codes) are
looked at, where a NULL can only mean a value out of range.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator
from typing import Any

from msgspec import inspect

from ledger_service.contract.events import SCHEMA_VERSION, event_type
from ledger_service.contract.forms import AMOUNT, DAY, MOMENT, RATIO, SIGNED
from ledger_service.contract.schemas import EventType

TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"

_JSON_TYPES: dict[type[inspect.Type], tuple[str, ...]] = {
    inspect.StrType: ("VARCHAR",),
    inspect.LiteralType: ("VARCHAR",),
    inspect.IntType: ("UBIGINT", "BIGINT"),
    inspect.BoolType: ("BOOLEAN",),
    inspect.ListType: ("ARRAY",),
    inspect.DictType: ("OBJECT",),
    inspect.StructType: ("OBJECT",),
    inspect.NoneType: ("NULL",),
}
_COLUMN_TYPES: dict[type[inspect.Type], str] = {
    inspect.StrType: "VARCHAR",
    inspect.LiteralType: "VARCHAR",
    inspect.IntType: "BIGINT",
    inspect.BoolType: "BOOLEAN",
}


@dataclasses.dataclass(frozen=True)
class Field:
    """One field, anywhere in an event."""

    path: tuple[str, ...]
    """Names from the top; a list adds `*`."""
    kinds: tuple[inspect.Type, ...]
    """More than one where it may be null."""
    required: bool
    pattern: str | None = None
    """Of its form (`contract.forms`), where it has one."""

    @property
    def name(self) -> str:
        """As people write it: `entries.amount`."""
        return ".".join(part for part in self.path if part != "*")

    @property
    def kind(self) -> inspect.Type:
        """What it is when it isn't null."""
        return next(kind for kind in self.kinds if not isinstance(kind, inspect.NoneType))

    @property
    def json_types(self) -> tuple[str, ...]:
        """The JSON types it may have."""
        return tuple(name for kind in self.kinds for name in _JSON_TYPES[type(kind)])

    @property
    def json_path(self) -> str:
        """DuckDB's path to it."""
        return "$" + "".join("[*]" if part == "*" else f".{part}" for part in self.path)


@functools.cache
def fields(event: EventType) -> tuple[Field, ...]:
    """Every field of an event, those of nested objects and lists too."""
    return (
        Field(("type",), (inspect.StrType(),), required=True),
        *_fields(event, (), required=True),
    )


def _fields(struct: Any, path: tuple[str, ...], *, required: bool) -> Iterator[Field]:
    for field in inspect.type_info(struct).fields:  # type: ignore[attr-defined]
        kinds, pattern = _kinds(field.type)
        # Our own encoder leaves a field out only where the struct says so (Context); there, and
        # where a reader of an older event would have to, a default stands for what is missing.
        one = Field((*path, field.encode_name), kinds, required and field.required, pattern)
        yield one
        if isinstance(one.kind, inspect.StructType):
            yield from _fields(one.kind.cls, one.path, required=one.required)
        if isinstance(one.kind, inspect.ListType) and isinstance(
            one.kind.item_type, inspect.StructType
        ):
            yield from _fields(one.kind.item_type.cls, (*one.path, "*"), required=True)


def _kinds(declared: inspect.Type) -> tuple[tuple[inspect.Type, ...], str | None]:
    """What a field may be, without what is written beside its type, and the pattern from there."""
    written = declared.types if isinstance(declared, inspect.UnionType) else (declared,)
    patterns = [
        (kind.extra_json_schema or {}).get("pattern")
        for kind in written
        if isinstance(kind, inspect.Metadata)
    ]
    return tuple(_bare(kind) for kind in written), next(iter(patterns), None)


def _bare(kind: inspect.Type) -> inspect.Type:
    return kind.type if isinstance(kind, inspect.Metadata) else kind


def column_shape(event: EventType) -> str:
    """The structure that `from_json` reads an event into, as a JSON text."""
    return json.dumps({"type": "VARCHAR", **_shape(event)})


def _shape(struct: Any) -> dict[str, Any]:
    shape: dict[str, Any] = {}
    for field in inspect.type_info(struct).fields:  # type: ignore[attr-defined]
        kinds, _ = _kinds(field.type)
        kind = next(k for k in kinds if not isinstance(k, inspect.NoneType))
        shape[field.encode_name] = _column(kind)
    return shape


def _column(kind: inspect.Type) -> Any:
    kind = _bare(kind)
    if isinstance(kind, inspect.StructType):
        return _shape(kind.cls)
    if isinstance(kind, inspect.ListType):
        return [_column(kind.item_type)]
    if isinstance(kind, inspect.DictType):
        return f"MAP(VARCHAR, {_column(kind.value_type)})"
    return _COLUMN_TYPES[type(kind)]


def single_paths(event: EventType) -> list[Field]:
    """The fields outside lists: their JSON types are asked for in one call per event."""
    return [field for field in fields(event) if "*" not in field.path]


def type_violation(event: EventType) -> str:
    """SQL: the code and words of the first field of wrong JSON type, or NULL.

    Reads the columns `doc` (valid JSON), `kinds` (JSON types of `single_paths`) and `e`.
    """
    singles = single_paths(event)
    version = 1 + next(i for i, field in enumerate(singles) if field.path == ("v",))
    whens = [
        (f"kinds[{version}] is null or kinds[{version}] <> 'UBIGINT'", "bad_field: v"),
        (f"e.v is null or e.v <> {SCHEMA_VERSION}", "unknown_version: v"),
    ]
    for number, field in enumerate(singles, 1):
        allowed = ", ".join(f"'{name}'" for name in field.json_types)
        wrong = f"kinds[{number}] not in ({allowed})"
        missing = f"kinds[{number}] is null or " if field.required else ""
        whens.append((f"{missing}{wrong}", f"bad_field: {field.name}"))
        if isinstance(field.kind, inspect.DictType):
            values = f"list_distinct(json_type(doc, '{field.json_path}.*'))"
            some = f"kinds[{number}] = 'OBJECT' and {values} not in (['VARCHAR'], [])"
            whens.append((some, f"bad_field: {field.name}"))
        if isinstance(field.kind, inspect.ListType):
            # No list of the contract may be empty: no currencies, no entries.
            whens.append((f"len(e.{field.name}) = 0", f"bad_field: {field.name}"))
    return _case([*whens, *_lists_violation(event)])


def _lists_violation(event: EventType) -> list[tuple[str, str]]:
    """What may be wrong inside lists, once everything around them is right.

    Every look into a document reads all of it, so it is first asked whether the lists, read and
    written again, are what stands there: then each member is there and of its type.
    """
    lists = [field for field in single_paths(event) if isinstance(field.kind, inspect.ListType)]
    if not lists:
        return []
    same = " and ".join(
        f"json_extract(doc, '{field.json_path}') is not distinct from to_json(e.{field.name})"
        for field in lists
    )
    texts = [
        (
            f"list_distinct(json_type(doc, '{field.json_path}[*]')) <> ['VARCHAR']",
            f"bad_field: {field.name}",
        )
        for field in lists
        if isinstance(field.kind, inspect.ListType)
        and isinstance(_bare(field.kind.item_type), inspect.StrType)
    ]
    members = [_items_violation(field) for field in fields(event) if "*" in field.path]
    return [(same, ""), *texts, *members]


def _items_violation(field: Field) -> tuple[str, str]:
    array = Field(field.path[: field.path.index("*")], field.kinds, field.required)
    allowed = ", ".join(f"'{name}'" for name in field.json_types)
    kinds = f"json_type(doc, '{field.json_path}')"
    # DuckDB leaves a missing member out of the answer, so the number of types tells it.
    condition = (
        f"len({kinds}) <> json_array_length(doc, '{array.json_path}') "
        f"or len(list_filter({kinds}, lambda k: k is null or k not in ({allowed}))) > 0"
        if field.required
        else f"len(list_filter({kinds}, lambda k: k is not null and k not in ({allowed}))) > 0"
    )
    return condition, f"bad_field: {field.name}"


def value_violation(event: EventType, source_field: str) -> str:
    """SQL: code and words of the first value that can't be, or NULL.

    Reads the struct `e`, `seq` (of the record's headers), `kinds`, and the parameter `$source`.
    """
    whens = [
        (f"e.type <> '{event_type(event)}'", "wrong_type: type"),
        (f"e.{source_field} <> $source", f"wrong_source: {source_field}"),
        ("e.seq is null or e.seq <> seq", "wrong_seq: seq"),
    ]
    for number, field in enumerate(single_paths(event), 1):
        value = "e." + ".".join(field.path)
        words = f"bad_field: {field.name}"
        whens.extend((condition, words) for condition in _wrong_values(field, value))
        if isinstance(field.kind, inspect.IntType):
            out_of_range = f"{value} is null and kinds[{number}] <> 'NULL'"
            whens.append((out_of_range, f"bad_field: {field.name}"))
    for field in fields(event):
        if "*" not in field.path:
            continue
        star = field.path.index("*")
        items = "e." + ".".join(field.path[:star])
        for condition in _wrong_values(field, "i." + ".".join(field.path[star + 1 :])):
            found = f"len(list_filter({items}, lambda i: {condition})) > 0"
            whens.append((found, f"bad_field: {field.name}"))
    return _case(whens)


def _wrong_values(field: Field, value: str) -> Iterator[str]:
    if isinstance(field.kind, inspect.LiteralType):
        allowed = ", ".join(f"'{literal}'" for literal in field.kind.values)
        yield f"{value} not in ({allowed})"
    elif field.pattern in (AMOUNT, SIGNED):
        yield f"not regexp_matches({value}, '{field.pattern}')"
        yield f"{value} is not null and try_cast({value} as bigint) is null"
    elif field.pattern == RATIO:
        yield f"not regexp_matches({value}, '{RATIO}')"
    elif field.pattern == MOMENT:
        yield f"{value} is not null and try_strptime({value}, '{TIME_FORMAT}') is null"
        yield f"length({value}) <> 27"
    elif field.pattern == DAY:
        yield f"not regexp_matches({value}, '{DAY}')"
        yield f"{value} is not null and try_cast({value} as date) is null"


def _case(whens: list[tuple[str, str]]) -> str:
    """SQL: the words of the first test that is true, NULL for words that are empty."""
    found = (f"when {test} then " + (f"'{words}'" if words else "null") for test, words in whens)
    return f"case {' '.join(found)} end"
