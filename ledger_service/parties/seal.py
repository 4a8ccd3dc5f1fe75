"""The vault's cryptography: envelopes and keyed hashes.

Each party and each file has a random key of 256 bits of its own. What is personal is sealed under
it with AES-256-GCM and bound to where it belongs (party and field): a sealed value moved to another
row or column does not open. The key itself lies beside it, wrapped by the key of keys, which never
enters the database; without its wrapped key a party's data is noise, and that is what erasing does.

TALLYSTICK_VAULT_KEY may list several keys with commas between: the first wraps, the others still
unwrap, until `rewrap` has moved every row to the first.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger_service.contract import environment

KEY_BYTES = 32
_NONCE_BYTES = 12


class SealBroken(Exception):
    """A sealed value was changed, moved, or sealed under another key."""


class UnknownVaultKey(LookupError):
    """A row was wrapped by a key of keys that TALLYSTICK_VAULT_KEY does not list."""


def letters(digest: bytes) -> str:
    """A digest in lower-case letters alone (4.7 bits each), so that no copy looks like a number."""
    number, signs = int.from_bytes(digest, "big"), []
    for _ in range(28):
        number, sign = divmod(number, 26)
        signs.append(chr(ord("a") + sign))
    return "".join(signs)


def keyed_hash(purpose: str, content: bytes) -> bytes:
    """HMAC-SHA256 under TALLYSTICK_TOKEN_KEY; hashes of different purposes can't be compared."""
    [key] = _decode(environment.read("TALLYSTICK_TOKEN_KEY"), "TALLYSTICK_TOKEN_KEY")
    return hmac.new(
        key, f"tallystick vault/{purpose}\0".encode() + content, hashlib.sha256
    ).digest()


def token(text: str) -> str:
    """What stands for an account number everywhere outside the vault: `tok_` and 28 letters.

    The same number gives the same token however written: blanks, hyphens and case don't count.
    """
    plain = "".join(sign for sign in text if sign.isalnum()).upper()
    return f"tok_{letters(keyed_hash('account number', plain.encode('utf-8', 'surrogatepass')))}"


def new_key() -> bytes:
    """A fresh data key."""
    return os.urandom(KEY_BYTES)


def seal(key: bytes, content: bytes, belongs_to: str) -> bytes:
    """`content` encrypted, with nonce before and tag behind, bound to `belongs_to`."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, content, belongs_to.encode())


def open_sealed(key: bytes, sealed: bytes, belongs_to: str) -> bytes:
    """The content of a sealed value. Errors: `SealBroken`."""
    try:
        return AESGCM(key).decrypt(
            sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], belongs_to.encode()
        )
    except (InvalidTag, ValueError):
        raise SealBroken(f"the sealed value of {belongs_to} does not open") from None


def wrap(key: bytes, belongs_to: str) -> tuple[str, bytes]:
    """A data key wrapped by the current key of keys: the id of that key, and the wrapped key."""
    key_id, key_of_keys = next(iter(_keys_of_keys().items()))
    return key_id, seal(key_of_keys, key, f"key of {belongs_to}")


def unwrap(key_id: str, wrapped: bytes, belongs_to: str) -> bytes:
    """A data key. Errors: `UnknownVaultKey`, `SealBroken`."""
    try:
        key_of_keys = _keys_of_keys()[key_id]
    except KeyError:
        raise UnknownVaultKey(f"TALLYSTICK_VAULT_KEY does not list the key {key_id}") from None
    return open_sealed(key_of_keys, wrapped, f"key of {belongs_to}")


def _keys_of_keys() -> dict[str, bytes]:
    return _named_keys(environment.read("TALLYSTICK_VAULT_KEY"))


@functools.lru_cache(maxsize=4)
def _named_keys(setting: str) -> dict[str, bytes]:
    """Keys by their ids; an id is a hash, so that it names a key and tells nothing of it."""
    keys = _decode(setting, "TALLYSTICK_VAULT_KEY")
    return {f"kek_{letters(hashlib.sha256(b'id' + key).digest())[:12]}": key for key in keys}


def _decode(setting: str, name: str) -> list[bytes]:
    try:
        keys = [base64.b64decode(part, validate=True) for part in setting.split(",")]
    except binascii.Error:
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise ValueError(f"{name} must be {KEY_BYTES} bytes in base64.")
    return keys
