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
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, cast

import msgspec
import structlog
import structlog.tracebacks

from ledger_service.contract.identifiers import looks_personal

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Of the request that is being served: each line that is written meanwhile names it."""


# Without the frames' local variables: they hold whatever a caller sent.
_tracebacks = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)
# `repr` for what is no JSON, as the standard library's renderer of structlog does.
_encoder = msgspec.json.Encoder(enc_hook=repr)


def _line(service: str, level: str, event: str, fields: dict[str, Any]) -> bytes:
    if "exc_info" in fields:
        _tracebacks(None, level, fields)
    for name, value in fields.items():
        fields[name] = _masked(value)
    request = request_id.get()
    if request is not None:
        fields["request_id"] = request
    fields["event"] = event
    fields["service"] = service
    fields["level"] = level
    fields["timestamp"] = dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z")
    return _encoder.encode(fields) + b"\n"


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


def places_of(error: BaseException) -> list[str]:
    """Where an error was raised, innermost last: what may be logged of it. Its message may quote what
    a caller sent.
    """
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames[-8:]]


class _StandardError:
    """Where lines go: those of one moment of an event loop in one piece, for a system call less."""

    def __init__(self, *_names: object) -> None:
        self._lines: list[bytes] = []
        self._lock = threading.Lock()

    def write(self, line: bytes) -> None:
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

    def _flush(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
        sys.stderr.buffer.write(b"".join(lines))
        sys.stderr.buffer.flush()


def _logger_of(service: str, minimum: int) -> type[structlog.BoundLoggerBase]:
    """A logger that makes a line in one step: every request writes one."""

    def method(level: str, **always: object) -> Callable[..., None]:
        def say(self: Any, event: str, **fields: Any) -> None:
            self._logger.write(_line(service, level, event, {**fields, **always}))

        def say_nothing(_self: Any, _event: str, **_fields: Any) -> None:
            pass

        return say if logging.getLevelNamesMapping()[level.upper()] >= minimum else say_nothing

    methods = {level: method(level) for level in ("debug", "info", "warning", "error")}
    methods["exception"] = method("error", exc_info=True)
    return type("Logger", (structlog.BoundLoggerBase,), methods)


def configure(service: str, level: str = "info") -> None:
    """Send the logs of this process to standard error as JSON, each line naming `service`."""
    structlog.configure(
        wrapper_class=_logger_of(service, logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=_StandardError,
        cache_logger_on_first_use=True,
    )
