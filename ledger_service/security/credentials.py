"""Bearer tokens: `tsk_<id>_<secret>` for API keys, `tss_<id>_<secret>` for sessions.

The id finds the row, the secret proves possession. Only a keyed hash of the secret is stored
(HMAC-SHA256 under TALLYSTICK_TOKEN_KEY): who reads the table can't call the API, and a secret of
256 random bits needs no slow hash. Passwords do, and get Argon2id.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from typing import Literal, NamedTuple

import argon2

from ledger_service.contract import environment
from ledger_service.contract.identifiers import random_id

TokenKind = Literal["tsk", "tss"]
_TOKEN = re.compile(r"(tsk|tss)_([0-9a-z]{26})_([0-9a-f]{64})\Z")
_ID_PREFIX = {"tsk": "key", "tss": "ses"}
_PASSWORDS = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""OWASP's password storage cheat sheet, Argon2id: 19 MiB, two passes, one lane."""
_NOBODYS_PASSWORD = _PASSWORDS.hash(secrets.token_hex(16))
"""Checked where there is no such user, so that an answer takes as long as for one that exists."""


class Token(NamedTuple):
    """A bearer token, taken apart. `row_id` is the id of its row: `key_…` or `ses_…`."""

    kind: TokenKind
    row_id: str
    secret: str

    @property
    def text(self) -> str:
        """What the bearer shows."""
        return f"{self.kind}_{self.row_id.partition('_')[2]}_{self.secret}"


def new_token(kind: TokenKind) -> Token:
    """A fresh token; its secret exists nowhere else."""
    return Token(kind, random_id(_ID_PREFIX[kind]), secrets.token_hex(32))


def parse_token(text: str) -> Token | None:
    """The token in `text`, or None where `text` does not have the form of one."""
    match = _TOKEN.match(text)
    if match is None:
        return None
    kind: TokenKind = "tsk" if match[1] == "tsk" else "tss"
    return Token(kind, f"{_ID_PREFIX[kind]}_{match[2]}", match[3])


def token_key() -> bytes:
    """TALLYSTICK_TOKEN_KEY. Errors: `MissingSetting`; ValueError unless 32 bytes in base64."""
    try:
        key = base64.b64decode(environment.read("TALLYSTICK_TOKEN_KEY"), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != 32:
        raise ValueError("TALLYSTICK_TOKEN_KEY must be 32 bytes in base64.")
    return key


def hash_secret(token: Token) -> bytes:
    """The keyed hash under which a token's secret is stored; bound to the token's row."""
    return _keyed("secret", f"{token.row_id}\0{token.secret}")


def hash_user_name(user_name: str) -> bytes:
    """The keyed hash under which sign-in attempts are counted."""
    return _keyed("user name", user_name)


def _keyed(purpose: str, text: str) -> bytes:
    message = f"tallystick security/{purpose}\0{text}".encode("utf-8", "surrogatepass")
    return hmac.new(token_key(), message, hashlib.sha256).digest()


def same(left: bytes, right: bytes) -> bool:
    """Equality in constant time."""
    return hmac.compare_digest(left, right)


def _bytes(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")


def hash_password(password: str) -> str:
    """Argon2id, with salt and parameters in the result."""
    return _PASSWORDS.hash(_bytes(password))


def password_matches(password_hash: str | None, password: str) -> bool:
    """Whether `password` is the one; None (no such user) takes as long and says no."""
    try:
        _PASSWORDS.verify(password_hash or _NOBODYS_PASSWORD, _bytes(password))
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False
    return password_hash is not None
