"""Tokens: their form, and that what is stored opens nothing."""

from __future__ import annotations

import base64

import pytest

from ledger_service.contract.identifiers import random_id
from ledger_service.security import credentials


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("TALLYSTICK_TOKEN_KEY", base64.b64encode(b"k" * 32).decode())


def test_a_token_is_read_back_and_only_its_keyed_hash_is_kept(monkeypatch):
    token = credentials.new_token("tsk")
    assert credentials.parse_token(token.text) == token
    stored = credentials.hash_secret(token)
    assert credentials.same(stored, credentials.hash_secret(token))
    other_row = token._replace(row_id=random_id("key"))
    assert not credentials.same(stored, credentials.hash_secret(other_row))
    monkeypatch.setenv("TALLYSTICK_TOKEN_KEY", base64.b64encode(b"x" * 32).decode())
    assert not credentials.same(stored, credentials.hash_secret(token))


@pytest.mark.parametrize("text", ["", "tsk_", "tsk_a_b", "tsx_" + "a" * 26 + "_" + "0" * 64, "é"])
def test_what_is_no_token_is_none(text):
    assert credentials.parse_token(text) is None
    assert credentials.parse_token(credentials.new_token("tss").text + text + "\n") is None


def test_a_missing_user_never_matches():
    assert not credentials.password_matches(None, "anything at all")
    assert credentials.password_matches(credentials.hash_password("a\ud800b"), "a\ud800b")


def test_random_ids_never_look_personal(monkeypatch):
    signs = iter("1" * 26 + "a" * 26)
    monkeypatch.setattr(
        "ledger_service.contract.identifiers.secrets.choice", lambda _alphabet: next(signs)
    )
    assert random_id("pty") == "pty_" + "a" * 26
