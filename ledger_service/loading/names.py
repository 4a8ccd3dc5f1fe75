"""Names that a load gives: keys, references, keyed account names; none looks personal."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

_LETTERS = str.maketrans("0123456789abcdef", "bcdfghjklmnpqrst")
_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def letters(text: str, length: int) -> str:
    """A fingerprint of `text` in consonants alone: never a word, never a number."""
    return hashlib.sha256(text.encode()).hexdigest()[:length].translate(_LETTERS)


def base32(number: int) -> str:
    """A row number in seven signs (Crockford's base 32), good for 34 thousand million rows."""
    signs = ""
    for _ in range(7):
        number, digit = divmod(number, 32)
        signs = _DIGITS[digit] + signs
    return signs


class KeyedNames:
    """Keyed hashes in the place of a source's account ids, under a secret of this home.

    The secret is made at the first use; with it a later load of the same source meets the same
    accounts, without it nobody can find an id by trying all of them.
    """

    def __init__(self, home: Path) -> None:
        path = home / "secrets" / "source_names"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
        else:
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_hex(32))
        self._key = path.read_text().strip().encode()

    def __call__(self, source_id: str) -> str:
        digest = hmac.new(self._key, source_id.encode(), hashlib.sha256).hexdigest()
        return digest[:24].translate(_LETTERS)
