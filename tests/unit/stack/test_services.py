"""The table of parts: order, least privilege, and that it fits the settings and entry points."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from ledger_service.contract.brokers import Brokers
from ledger_service.contract.environment import SETTINGS
from ledger_service.stack import bringing_up, services, settings
from ledger_service.stack.errors import StackError
from ledger_service.stack.home import Home
from ledger_service.stack.services import Part

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
ALL = [*services.TABLE.values(), *services.COMMANDS.values()]


def test_every_setting_of_the_table_exists_and_can_be_given():
    for part in ALL:
        for name in part.settings:
            assert settings.PREFIX + name in SETTINGS
            assert name in settings._RESOLVERS


def test_every_registered_service_is_in_the_table():
    registered = PROJECT["entry-points"]["tallystick.services"]
    assert set(registered) == {part.name for part in ALL if part.kind == "service"}


@pytest.mark.parametrize(
    ("setting", "holders"),
    [
        ("VAULT_KEY", {"api"}),
        ("LOG_KEY", {"writer"}),
        ("WITNESS_KEY", {"witness"}),
        ("WRITER_SECRET", {"writer", "api"}),
        ("PAYLOAD_KEY", {"worker"}),
        ("BANK_SECRET", {"bank"}),
        ("KAFKA_PASSWORD", {"relay", "dagster-code"}),
        ("OWNER_DATABASE_URL", {"migrations"}),
        ("DAGSTER_SECRET", {"dagster-webserver", "console"}),
        ("BI_PASSWORD", {"bi"}),
    ],
)
def test_a_secret_is_given_to_those_who_need_it_only(setting, holders):
    assert {part.name for part in services.TABLE.values() if setting in part.settings} == holders


def test_a_part_gets_no_secret_of_the_callers(tmp_path, monkeypatch):
    monkeypatch.setenv("TALLYSTICK_VAULT_KEY", "of the caller")
    monkeypatch.setenv("TALLYSTICK_DATABASE_URL", "postgresql://owner:x@elsewhere/ledger")
    home = Home(tmp_path).create()
    relay = settings.process_environment(home, services.TABLE["relay"])
    assert "TALLYSTICK_VAULT_KEY" not in relay
    assert "tallystick_relay_login" in relay["TALLYSTICK_DATABASE_URL"]


def kafka_of(home: Home, name: str) -> dict[str, str]:
    part = Part(name, settings=services._KAFKA, kafka=name)
    return {key.removeprefix("TALLYSTICK_KAFKA_"): v for key, v in settings.of(home, part).items()}


def test_every_part_comes_to_kafka_as_itself(tmp_path):
    home = Home(tmp_path).create()
    relay, pipelines = kafka_of(home, "relay"), kafka_of(home, "pipelines")
    assert relay["BOOTSTRAP"] == home.address("kafka") != home.address("kafka.brokers")
    assert (relay["SECURITY"], relay["MECHANISM"]) == ("SASL_PLAINTEXT", "SCRAM-SHA-512")
    assert (relay["USERNAME"], pipelines["USERNAME"]) == (
        "tallystick-relay",
        "tallystick-pipelines",
    )
    assert relay["PASSWORD"] == home.secret("kafka_relay") != pipelines["PASSWORD"]


def test_a_kafka_elsewhere_is_reached_as_it_was_given(tmp_path, monkeypatch):
    home = Home(tmp_path).create()
    given = {
        "BOOTSTRAP": "k1:9094,k2:9094", "SECURITY": "SASL_SSL", "USERNAME": "root",
        "PASSWORD": "root's", "MECHANISM": "PLAIN", "CA": "/ca.pem", "REPLICATION": "3",
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(f"TALLYSTICK_KAFKA_{name}", value)
    settings.remember_given(home)
    for name in given:
        monkeypatch.delenv(f"TALLYSTICK_KAFKA_{name}")
    admin = settings.given_brokers(home)
    assert admin == Brokers("k1:9094,k2:9094", "SASL_SSL", "root", "root's", "PLAIN", "/ca.pem")
    assert settings.of(home, services.TABLE["relay"])["TALLYSTICK_KAFKA_REPLICATION"] == "3"
    relay = kafka_of(home, "relay")
    assert relay["BOOTSTRAP"] == given["BOOTSTRAP"]
    assert (relay["SECURITY"], relay["CA"]) == ("SASL_SSL", "/ca.pem")
    assert (relay["USERNAME"], relay["MECHANISM"]) == ("tallystick-relay", "SCRAM-SHA-512")
    settings.remember_given(home)
    assert kafka_of(home, "relay")["BOOTSTRAP"] == home.address("kafka"), "it is given no more"
    assert kafka_of(home, "relay")["CA"] == ""


def test_a_home_gives_its_logins_to_its_own_kafka_only(home, monkeypatch):
    (home / "supervisor").mkdir()
    pipeline = services.COMMANDS["pipeline"]
    assert "TALLYSTICK_KAFKA_PASSWORD" in settings.fill_in(pipeline, {})
    filled = settings.fill_in(pipeline, {"TALLYSTICK_KAFKA_BOOTSTRAP": "another:9094"})
    assert not [name for name in filled if name.startswith("TALLYSTICK_KAFKA_")]


def test_named_parts_bring_what_they_need_in_order():
    names = [part.name for part in services.chosen(["worker"], services.TABLE)]
    assert names == [
        "postgres", "temporal", "database", "migrations", "identities", "writer", "api", "worker",
    ]  # fmt: skip
    with pytest.raises(StackError, match="no 'teapot'") as error:
        services.chosen(["teapot"], services.TABLE)
    assert error.value.code == "unknown_part"


def test_the_order_of_needs_is_kept_and_the_first_failure_stops_the_rest():
    parts = [Part("a"), Part("b", needs=("a",)), Part("c", needs=("b",)), Part("d")]
    seen: list[str] = []
    bringing_up._in_order(parts, lambda part: seen.append(part.name))
    assert seen.index("a") < seen.index("b") < seen.index("c")
    seen.clear()
    bringing_up._in_order(parts, lambda part: seen.append(part.name), backwards=True)
    assert seen.index("c") < seen.index("b") < seen.index("a")

    seen.clear()

    def fail_at_b(part: Part) -> None:
        seen.append(part.name)
        if part.name == "b":
            raise StackError("not_ready", "b fell")

    with pytest.raises(StackError, match="b fell"):
        bringing_up._in_order(parts, fail_at_b)
    assert "c" not in seen


def test_a_part_behind_a_step_is_stopped_before_what_the_step_needs():
    writer = services.TABLE["writer"]
    [stopped] = bringing_up._skipping_steps([writer])
    assert stopped.needs == ("postgres",)
