"""A home's secrets and ports."""

from __future__ import annotations

import socket
import stat

import pytest

from ledger_service.stack import settings
from ledger_service.stack.errors import StackError
from ledger_service.stack.home import Home, is_free


def test_a_secret_is_made_once_and_read_by_its_owner_only(tmp_path):
    home = Home(tmp_path).create()
    value = home.secret("bank")
    assert Home(tmp_path).secret("bank") == value
    assert home.secret("dagster") != value
    assert stat.S_IMODE(home.secret_file("bank").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700


def test_a_port_is_chosen_free_and_remembered(tmp_path):
    home = Home(tmp_path)
    port = home.port("api")
    assert is_free(port)
    with socket.socket() as other:
        # as servers bind: a connection of before that has not timed out takes no port
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        assert home.port("api") == port, "a remembered port stays, taken or not"
        assert home.port("writer") != port
        (tmp_path / "ports.json").unlink()
        assert home.port("api") != port, "a new choice avoids what is taken"


def test_two_homes_choose_different_ports(tmp_path):
    names = ["api", "writer", "kafka"]
    one, two = ({Home(tmp_path / which).port(name) for name in names} for which in ("one", "two"))
    assert not one & two


def test_a_broken_ports_file_is_named(tmp_path):
    (tmp_path / "ports.json").write_text("{oops")
    with pytest.raises(StackError, match=r"ports\.json is not JSON.*delete it") as error:
        Home(tmp_path).port("api")
    assert error.value.code == "bad_ports_file"


def test_the_public_half_belongs_to_the_seed():
    # RFC 8032, 7.1, test 1
    seed = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
    assert settings.public_half(seed) == "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
