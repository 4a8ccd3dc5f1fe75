"""`tally identities`: made once per home, marked, kept from other people's eyes."""

from __future__ import annotations

import json
import stat

from click.testing import CliRunner

from ledger_service.security.cli import identities
from ledger_service.security.provisioning import KEYS, USERS
from tests.ledger_api import KEYS as SETTINGS


def run(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(identities, arguments)
    assert result.exit_code == status, result.output
    return result.output


def test_identities_are_provisioned_once(ledger_database, home, monkeypatch):
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TALLYSTICK_DATABASE_URL", ledger_database.url("api"))
    run("provision")
    secrets = home / "secrets"
    first = (secrets / "identities.json").read_bytes()
    assert json.loads(first)["users"].keys() == USERS.keys()
    assert {path.name for path in secrets.iterdir()} == {
        "identities.json",
        *(f"{name}.key" for name in KEYS),
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o600}
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    run("provision")
    assert (secrets / "identities.json").read_bytes() == first

    (secrets / "identities.json").unlink()
    run("provision")
    again = json.loads((secrets / "identities.json").read_bytes())
    assert again["users"]["adam"]["password"] != json.loads(first)["users"]["adam"]["password"]
    shown = run("show", "--json")
    assert json.loads(shown) == again["users"]


def test_keys_and_users_are_made_and_revoked(ledger_database, home, monkeypatch, tmp_path):
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TALLYSTICK_DATABASE_URL", ledger_database.url("api"))
    user = run("create-user", "grace", "--role", "auditor", "--password", "a long password").strip()
    assert user.startswith("usr_")
    out = tmp_path / "grace.key"
    run("create-key", "graces", "--role", "auditor", "--holder", "grace", "--out", str(out))
    assert out.read_text().startswith("tsk_")
    assert "name_taken" not in run("create-key", "graces", "--role", "auditor", status=1)
    assert "12 characters" in run(
        "create-user", "eve", "--role", "auditor", "--password", "short", status=1
    )
    assert user in run("revoke", "grace")
    assert "no live user or key" in run("revoke", "grace", status=1)
