"""SCRAM-SHA-256, the server's half (RFC 5802, RFC 7677): the password never travels.

Without channel binding: the service is to stand behind TLS wherever the network is not trusted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

MECHANISM = "SCRAM-SHA-256"
ITERATIONS = 4096


class AuthenticationError(PermissionError):
    """Who asks does not know the password, or does not speak SCRAM."""


class Exchange:
    """One sign-in: `first` answers the client's first message, `final` its second."""

    def __init__(self, password: str) -> None:
        self._salt = secrets.token_bytes(16)
        self._salted = hashlib.pbkdf2_hmac("sha256", password.encode(), self._salt, ITERATIONS)
        self._nonce = secrets.token_urlsafe(18)
        self._so_far = ""

    def first(self, message: bytes) -> bytes:
        """Nonce, salt and iterations. Errors: `AuthenticationError`."""
        flag, _, bare = _text(message).split(",", 2)
        nonce = _attributes(bare).get("r")
        if flag not in ("n", "y") or not nonce:
            raise AuthenticationError("channel binding is not offered, and a nonce is needed")
        self._nonce = nonce + self._nonce
        salt = base64.b64encode(self._salt).decode()
        answer = f"r={self._nonce},s={salt},i={ITERATIONS}"
        self._so_far = f"{bare},{answer}"
        return answer.encode()

    def final(self, message: bytes) -> bytes:
        """The server's own proof, once the client's holds. Errors: `AuthenticationError`."""
        text = _text(message)
        given, (without, _, proof) = _attributes(text), text.rpartition(",p=")
        transcript = f"{self._so_far},{without}".encode()
        client_key = _mac(self._salted, b"Client Key")
        stored = hashlib.sha256(client_key).digest()
        expected = _xor(client_key, _mac(stored, transcript))
        try:
            shown = base64.b64decode(proof, validate=True)
        except binascii.Error:
            shown = b""
        if given.get("r") != self._nonce or not hmac.compare_digest(shown, expected):
            raise AuthenticationError("wrong password")
        signature = _mac(_mac(self._salted, b"Server Key"), transcript)
        return b"v=" + base64.b64encode(signature)


def _text(message: bytes) -> str:
    text = message.decode("utf-8", "replace")
    if text.count(",") < 2:
        raise AuthenticationError("no message of SCRAM")
    return text


def _attributes(text: str) -> dict[str, str]:
    return {part[:1]: part[2:] for part in text.split(",") if part[1:2] == "="}


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
