"""Structured logs on standard error, one JSON object a line, without personal data.

Event names are dotted nouns and a verb (`relay.batch_published`). Values come from our own code:
ids, counts, codes. Whatever a caller sent is never logged as it came; the last processor masks long
numbers all the same, so that a mistake in one line does not become a leak (P10).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, cast

import msgspec
import structlog
import structlog.tracebacks

from ledger_service.contract.identifiers import looks_personal

_OWN_FIELDS = frozenset({"timestamp", "level", "event", "service"})


# Without the frames' local variables: they hold whatever a caller sent.
_tracebacks = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def _mask(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in line.items():
        if name not in _OWN_FIELDS:
            line[name] = _masked(value)
    return line


def _masked(value: object) -> object:
    """`value` with every text that looks personal replaced, at any depth."""
    if isinstance(value, str):
        # Nine digits are the least that any of the guarded forms has.
        return "[masked]" if len(value) > 8 and looks_personal(value) else value
    if isinstance(value, dict):
        inner = cast("dict[object, object]", value)
        return {_masked(key): _masked(one) for key, one in inner.items()}
    if isinstance(value, list | tuple):
        return [_masked(one) for one in cast("list[object]", value)]
    return value


def _json(line: dict[str, Any], default: Callable[[Any], Any]) -> str:
    """A line, much sooner than by the standard library: every request writes one."""
    return msgspec.json.encode(line, enc_hook=default).decode()


def configure(service: str, level: str = "info") -> None:
    """Send the logs of this process to standard error as JSON, each line naming `service`."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _tracebacks,
            _mask,
            structlog.processors.JSONRenderer(_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
