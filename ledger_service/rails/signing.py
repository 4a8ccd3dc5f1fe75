"""Signed requests between us and a partner bank: HMAC over method, path, body, time and a nonce.

Both sides hold the same secret. A request is taken for five minutes around its time, and once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping

WINDOW_SECONDS = 300
TIME, NONCE, SIGNATURE = "x-bank-time", "x-bank-nonce", "x-bank-signature"


class SignatureRefusedError(ValueError):
    """A request that the other side did not sign, or not now. `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _signature(secret: str, request: tuple[str, str], body: bytes, at: str, nonce: str) -> str:
    method, target = request
    message = "\n".join((method.upper(), target, at, nonce, hashlib.sha256(body).hexdigest()))
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()


def sign(secret: str, method: str, target: str, body: bytes) -> dict[str, str]:
    """Headers that sign a request made now. `target` is path and query as sent."""
    at, nonce = str(int(time.time())), secrets.token_hex(16)
    return {
        TIME: at,
        NONCE: nonce,
        SIGNATURE: _signature(secret, (method, target), body, at, nonce),
    }


def verify(secret: str, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> str:
    """The nonce of a rightly signed request made now; the caller refuses one seen before.

    Errors: SignatureRefusedError `unsigned`, `bad_signature`, `outside_window`.
    """
    at, nonce = headers.get(TIME, ""), headers.get(NONCE, "")
    if not (at.isdigit() and len(at) < 12 and len(nonce) == 32):
        raise SignatureRefusedError(
            "unsigned", "Sign the request: x-bank-time, x-bank-nonce, x-bank-signature."
        )
    expected = _signature(secret, (method, target), body, at, nonce)
    if not hmac.compare_digest(expected.encode(), headers.get(SIGNATURE, "").encode()):
        raise SignatureRefusedError(
            "bad_signature", "The signature fits neither this request nor this secret."
        )
    if abs(time.time() - int(at)) > WINDOW_SECONDS:
        raise SignatureRefusedError(
            "outside_window", "The request was signed too long ago; check the clocks."
        )
    return nonce
