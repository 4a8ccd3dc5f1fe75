"""Tells people what stands still: one signed HTTP POST a message, to the address in the settings.

Signed as Standard Webhooks (standardwebhooks.com) says, so receivers verify with the library of their
language: HMAC-SHA256 over `id.timestamp.body`. A repeated message has the same id. A message carries
names, numbers and a link: no detail of a check, no text of an error, nothing of an account or a party.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable

import httpx
import msgspec

from ledger_service.contract import environment

ATTEMPTS = 4
FIRST_WAIT_S = 0.5
"""Doubled from attempt to attempt."""
TIMEOUT_S = 5.0
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


class Message(msgspec.Struct, frozen=True):
    """What is told."""

    type: str
    """`run.failed`, or `check`, `lag` or `quarantine` with `.raised` or `.cleared`."""
    subject: str
    """Name of a job, a check or a ledger."""
    figures: dict[str, int] = {}
    link: str = ""


class WebhookFailedError(RuntimeError):
    """The receiver did not take a message; the text says what it answered."""


class Webhook:
    """A receiver and the key that signs for it."""

    def __init__(self, url: str, key: bytes, sleep: Callable[[float], None] = time.sleep) -> None:
        self._url = url
        self._key = key
        self._sleep = sleep

    @classmethod
    def from_settings(cls) -> Webhook | None:
        """The receiver that the environment names; None without one. Errors: `MissingSetting`."""
        url = environment.read("TALLYSTICK_WEBHOOK_URL")
        if not url:
            return None
        return cls(url, base64.b64decode(environment.read("TALLYSTICK_WEBHOOK_SECRET")))

    def send(self, message_id: str, message: Message) -> None:
        """Send, a few times where the receiver is away. Errors: `WebhookFailedError`."""
        body = msgspec.json.encode(message)
        answer = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._sleep(FIRST_WAIT_S * 2 ** (attempt - 1))
            try:
                response = httpx.post(
                    self._url, content=body, headers=self._headers(message_id, body),
                    timeout=TIMEOUT_S,
                )  # fmt: skip
            except httpx.TransportError as failure:
                answer = type(failure).__name__
                continue
            if response.is_success:
                return
            answer = f"status {response.status_code}"
            if response.status_code not in _TRY_AGAIN:
                break
        raise WebhookFailedError(
            f"The receiver of TALLYSTICK_WEBHOOK_URL did not take {message.type} of "
            f"{message.subject}: {answer}. Check the address and TALLYSTICK_WEBHOOK_SECRET."
        )

    def _headers(self, message_id: str, body: bytes) -> dict[str, str]:
        now = str(int(time.time()))
        signed = f"{message_id}.{now}.".encode() + body
        digest = hmac.new(self._key, signed, hashlib.sha256).digest()
        return {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": now,
            "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
        }
