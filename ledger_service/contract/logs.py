"""Structured logs on standard error, one JSON object a line, without personal data.

Event names are dotted nouns and a verb (`relay.batch_published`). Values come from our own code:
ids, counts, codes. Whatever a caller sent is never logged as it came; the last processor masks long
numbers all the same, so that a mistake in one line does not become a leak (P10).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import sys
import threading
from collections.abc import MutableMapping
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
# `repr` for what is no JSON, as the standard library's renderer of structlog does.
_encoder = msgspec.json.Encoder(enc_hook=repr)


def _line(logger: Any, level: str, fields: MutableMapping[str, Any]) -> bytes:
    """A line from its fields, in one step: every request writes one."""
    if "exc_info" in fields:
        fields = _tracebacks(logger, level, fields)
    for name, value in fields.items():
        if name not in _OWN_FIELDS:
            fields[name] = _masked(value)
    fields["level"] = level
    fields["timestamp"] = dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z")
    return _encoder.encode(fields)


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


class _StandardError:
    """Where lines go: those of one moment of an event loop in one piece, for a system call less."""

    def __init__(self, *_names: object) -> None:
        self._lines: list[bytes] = []
        self._lock = threading.Lock()

    def msg(self, line: bytes) -> None:
        """Write a line; at once outside of an event loop."""
        with self._lock:
            self._lines.append(line)
            is_first = len(self._lines) == 1
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._flush()
        else:
            if is_first:
                loop.call_soon(self._flush)

    debug = info = warning = error = critical = exception = msg

    def _flush(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
        sys.stderr.buffer.write(b"".join(line + b"\n" for line in lines))
        sys.stderr.buffer.flush()


def configure(service: str, level: str = "info") -> None:
    """Send the logs of this process to standard error as JSON, each line naming `service`."""
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, _line],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=_StandardError,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
