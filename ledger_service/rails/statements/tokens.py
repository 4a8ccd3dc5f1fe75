"""Keyed tokens in the place of account numbers and of references that look personal (P10)."""

from __future__ import annotations

import hashlib
import hmac

from ledger_service.contract.identifiers import REFERENCE, looks_personal

# Letters only, so that no token can look like the numbers it stands for.
_LETTERS = str.maketrans("0123456789abcdef", "bcdfghjklmnpqrst")


class Tokens:
    """Makes tokens under one secret key: equal inputs, equal tokens."""

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise ValueError("the key of tokens is 32 bytes")
        self._key = key

    def _token(self, prefix: str, *parts: str) -> str:
        message = "\0".join((prefix, *parts)).encode()
        digest = hmac.new(self._key, message, hashlib.sha256).hexdigest()[:32]
        return f"{prefix}_{digest.translate(_LETTERS)}"

    def statement_account(self, bank: str, account_number: str) -> str:
        """The name of a bank's account outside the vault. Blanks in the number don't count."""
        return self._token("sta", bank, "".join(account_number.split()).upper())

    def reference(self, text: str | None) -> str | None:
        """A reference fit for the stream: itself, or its token if it is personal or none."""
        if text is None:
            return None
        if REFERENCE.match(text) and not looks_personal(text):
            return text
        return self._token("ref", text)
