"""Whether a contract keeps what an earlier one of the same version promised.

Two readers must not fail: one of the released contract on events written now, and one of today on
events that were written then. So what stands in a released contract stays: fields are neither
removed nor made optional nor made required, their types, forms and defaults don't change, and words
come only to lists that said so (`x-may-grow`). Fields that may be left out, and event types, may
come. Whatever these rules don't know of counts as a change that breaks: add the rule first.

There is `jsoncompat` for this, which answers yes or no, not what would break.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ledger_service.contract.schemas import Schema

_WORDS = frozenset({"title", "description", "examples", "summary"})
"""What is for people only."""
_GIVEN_ELSEWHERE = frozenset(
    {"$ref", "anyOf", "allOf", "type", "properties", "required", "items", "additionalProperties"}
    | {"enum", "x-may-grow", "default"}
)
_KEYWORDS = {
    "pattern": "form",
    "format": "form",
    "const": "only value",
    "minimum": "least value",
    "maximum": "greatest value",
    "maxLength": "greatest length",
    "minItems": "least number of items",
}


def broken_events(released: Schema, present: Schema) -> list[str]:
    """What of the released events' schema the present one breaks, each in a sentence."""
    return list(_broken_types(released, present))


def broken_channels(released: Schema, present: Schema) -> list[str]:
    """What of the released AsyncAPI document the present one breaks, payloads left to the other."""
    return list(_broken_channels(released, present))


def _broken_types(released: Schema, present: Schema) -> Iterator[str]:
    for old in released["oneOf"]:
        name = old["$ref"].rpartition("/")[2]
        if old not in present["oneOf"]:
            yield f"{name}: the event type is gone; journals hold it for ever."
            continue
        yield from _broken(name, (old, released), (old, present))


def _broken_channels(released: Schema, present: Schema) -> Iterator[str]:
    for name, old in released["channels"].items():
        new = present["channels"].get(name)
        if new is None:
            yield f"{name}: the channel is gone."
            continue
        if new["address"] != old["address"]:
            yield f"{name}: the address was {old['address']}, now it is {new['address']}."
        if new["bindings"] != old["bindings"]:
            yield f"{name}: partitions or retention changed; readers rely on them."
        for message, reference in old["messages"].items():
            if message not in new["messages"]:
                yield f"{name}: {message} is no longer carried."
                continue
            was, now = (_resolved(reference, one) for one in (released, present))
            was_key, key = (one["bindings"]["kafka"]["key"] for one in (was, now))
            yield from _broken(f"{message} key", (was_key, released), (key, present))
            headers = (was["headers"], released), (now["headers"], present)
            yield from _broken(f"{message} headers", *headers)
            if was["name"] != now["name"] or was["contentType"] != now["contentType"]:
                yield f"{message}: its name or content type changed."


def _broken(where: str, old: tuple[Schema, Schema], new: tuple[Schema, Schema]) -> Iterator[str]:
    """`old` and `new`: a schema, and the document that its references lead into."""
    was, now = _choices(*old), _choices(*new)
    if was.keys() != now.keys():
        yield f"{where}: was {_or(was)}, now is {_or(now)}."
    for kind in was.keys() & now.keys():
        yield from _broken_keywords(where, was[kind], now[kind])
        yield from _broken_words(where, was[kind], now[kind])
        yield from _broken_fields(where, (was[kind], old[1]), (now[kind], new[1]))
        for keyword in ("items", "additionalProperties"):
            if keyword in was[kind] and keyword in now[kind]:
                inside = (was[kind][keyword], old[1]), (now[kind][keyword], new[1])
                yield from _broken(f"{where}[]", *inside)
            elif keyword in was[kind] or keyword in now[kind]:
                yield f"{where}: what it holds was {_said(was[kind], keyword)}, now is {_said(now[kind], keyword)}."


def _broken_fields(
    where: str, old: tuple[Schema, Schema], new: tuple[Schema, Schema]
) -> Iterator[str]:
    was, now = (one[0].get("properties", {}) for one in (old, new))
    needed, needs = (set(one[0].get("required", [])) for one in (old, new))
    for name, schema in was.items():
        place = f"{where}.{name}"
        if name not in now:
            yield f"{place}: the field is gone; a released reader looks for it."
            continue
        if name in needed - needs:
            yield f"{place}: may now be left out; a released reader needs it."
        if name in needs - needed:
            yield f"{place}: is now required; older events lack it."
        if schema.get("default") != now[name].get("default") or (
            ("default" in schema) != ("default" in now[name])
        ):
            yield (
                f"{place}: left out meant {_said(schema, 'default')}, now means "
                f"{_said(now[name], 'default')}; older events leave it out."
            )
        yield from _broken(place, (schema, old[1]), (now[name], new[1]))
    for name in sorted(needs - was.keys()):
        yield f"{where}.{name}: is new and required; older events lack it."


def _broken_keywords(where: str, was: Schema, now: Schema) -> Iterator[str]:
    for keyword in sorted((was.keys() | now.keys()) - _WORDS - _GIVEN_ELSEWHERE):
        if was.get(keyword) != now.get(keyword):
            what = _KEYWORDS.get(keyword, f"{keyword}, of which no rule is known,")
            yield f"{where}: its {what} was {_said(was, keyword)}, now is {_said(now, keyword)}."


def _broken_words(where: str, was: Schema, now: Schema) -> Iterator[str]:
    """A list of words may grow where readers were told, and shrink never."""
    if ("enum" in was) != ("enum" in now):
        yield f"{where}: its words were {_said(was, 'enum')}, now are {_said(now, 'enum')}."
        return
    old, new = set(was.get("enum", [])), set(now.get("enum", []))
    may_grow = was.get("x-may-grow", False)
    yield from (f"{where}: no longer {word}; older events say it." for word in sorted(old - new))
    if not may_grow:
        yield from (
            f"{where}: may now be {word}; released readers know only {_or(old)}."
            for word in sorted(new - old)
        )
        if now.get("x-may-grow"):
            yield f"{where}: may now grow; released readers were not told."


def _choices(schema: Schema, document: Schema) -> dict[str, Schema]:
    """A schema by JSON type: references followed, choices taken apart, what holds together joined."""
    schema = _resolved(schema, document)
    if "anyOf" in schema:
        parts = [_choices(one, document) for one in schema["anyOf"]]
        return {kind: one for part in parts for kind, one in part.items()}
    if "allOf" in schema:
        parts = [_resolved(one, document) for one in schema["allOf"]]
        fields: Schema = {}
        for part in parts:
            for name, one in part["properties"].items():
                fields[name] = {**fields.get(name, {}), **one}
        return {"object": {**parts[0], "properties": fields}}
    return {str(schema.get("type", "anything")): schema}


def _resolved(schema: Schema, document: Schema) -> Schema:
    if "$ref" not in schema:
        return schema
    found: Any = document
    for step in schema["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return found


def _said(schema: Mapping[str, Any], keyword: str) -> str:
    return repr(schema[keyword]) if keyword in schema else "not stated"


def _or(words: Mapping[str, Any] | set[str]) -> str:
    return " or ".join(sorted(words))
