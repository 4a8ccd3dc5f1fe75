"""Structured logs on standard error, one JSON object a line, without personal data.

Event names are dotted nouns and a verb (`relay.batch_published`). Values come from our own code:
ids, counts, codes. Whatever a caller sent is never logged as it came; the last processor masks long
numbers all the same, so that a mistake in one line does not become a leak (P10).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from ledger_service.contract.identifiers import looks_personal

_OWN_FIELDS = frozenset({"timestamp", "level", "event", "service"})


def _mask(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in line.items():
        if name not in _OWN_FIELDS and isinstance(value, str) and looks_personal(value):
            line[name] = "[masked]"
    return line


def configure(service: str, level: str = "info") -> None:
    """Send the logs of this process to standard error as JSON, each line naming `service`."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            _mask,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    structlog.contextvars.bind_contextvars(service=service)
