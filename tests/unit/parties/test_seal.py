"""The vault's envelopes, bound to their place, opened by listed keys only; and its tokens."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_service.contract.identifiers import REFERENCE, looks_personal
from ledger_service.parties import seal

OLD, NEW = (base64.b64encode(letter * 32).decode() for letter in (b"o", b"n"))


@pytest.fixture(autouse=True)
def _keys(monkeypatch):
    monkeypatch.setenv("TALLYSTICK_TOKEN_KEY", OLD)
    monkeypatch.setenv("TALLYSTICK_VAULT_KEY", OLD)


def test_a_sealed_value_opens_only_where_it_belongs():
    key = seal.new_key()
    sealed = seal.seal(key, b"Ada", "pty_a/name")
    assert seal.open_sealed(key, sealed, "pty_a/name") == b"Ada"
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for other_key, value, place in (
        (key, sealed, "pty_b/name"),
        (key, sealed, "pty_a/address"),
        (key, changed, "pty_a/name"),
        (key, b"", "pty_a/name"),
        (seal.new_key(), sealed, "pty_a/name"),
    ):
        with pytest.raises(seal.SealBroken):
            seal.open_sealed(other_key, value, place)


def test_the_key_of_keys_is_rotated(monkeypatch):
    key = seal.new_key()
    old_id, wrapped = seal.wrap(key, "pty_a")
    monkeypatch.setenv("TALLYSTICK_VAULT_KEY", f"{NEW},{OLD}")
    assert seal.unwrap(old_id, wrapped, "pty_a") == key
    new_id, rewrapped = seal.wrap(key, "pty_a")
    assert new_id != old_id
    monkeypatch.setenv("TALLYSTICK_VAULT_KEY", NEW)
    assert seal.unwrap(new_id, rewrapped, "pty_a") == key
    with pytest.raises(seal.UnknownVaultKey):
        seal.unwrap(old_id, wrapped, "pty_a")
    with pytest.raises(seal.SealBroken):
        seal.unwrap(new_id, rewrapped, "pty_b")


@given(st.text(max_size=40))
def test_tokens_look_like_nothing_and_ignore_how_a_number_is_written(text):
    token = seal.token(text)
    assert not looks_personal(f"{token}{token}")
    assert REFERENCE.match(token)
    assert seal.token(f" {text}- ") == token


def test_tokens_differ_by_number_and_by_key(monkeypatch):
    token = seal.token("123456789")
    assert token != seal.token("123456788")
    monkeypatch.setenv("TALLYSTICK_TOKEN_KEY", NEW)
    assert token != seal.token("123456789")
