"""The stack's life: up, again up, a death, down; and everything that can stand in its way."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import socket
import time

import psycopg
import pytest

from ledger_service.stack import logins, settings, supervision
from ledger_service.stack.home import Home, is_free

PARTS = ("postgres", "temporal", "tiny")
"""A database, a server and a service; Kafka takes longest, and has its life in the house's tests."""


def until(condition, seconds: float = 20):
    """Wait for what supervisor does on its own."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)
    return found


def all_ready(stack):
    """The status once every part is ready, else nothing."""
    now = stack.status()
    return now if all(name in now and now[name]["ready"] for name in PARTS) else None


def test_a_whole_life(make_stack):
    stack = make_stack("life")
    stack.up(*PARTS)
    first = stack.status()
    assert set(first) == set(PARTS)
    assert all(line["ready"] and line["state"] == "RUNNING" for line in first.values())
    assert all(line["rss_mb"] > 1 and line["ports"] for line in first.values())

    data = stack.home / "postgres" / "data"
    assert data.stat().st_uid == os.geteuid(), "root or not, the files stay ours"

    begun = time.monotonic()
    again = stack.tally("up", *PARTS)
    assert again.returncode == 0
    assert again.stdout == "Everything is running.\n"
    assert time.monotonic() - begun < 10
    assert {n: line["pid"] for n, line in stack.status().items()} == {
        n: line["pid"] for n, line in first.items()
    }

    for name in ("tiny", "postgres"):
        os.kill(first[name]["pid"], signal.SIGKILL)
    second = until(lambda: all_ready(stack))
    assert second["tiny"]["pid"] != first["tiny"]["pid"]
    assert second["postgres"]["pid"] != first["postgres"]["pid"]
    assert second["temporal"]["pid"] == first["temporal"]["pid"]

    family = stack.processes()
    children = {first["tiny"]["figures"]["child"], second["tiny"]["figures"]["child"]}
    # that of the first `tiny`, which was killed, is no one's child any more
    assert children <= {process.pid for process in family}
    down = stack.tally("down")
    assert down.returncode == 0, down.stderr
    assert supervision.wait_for_ends(family, 0) == []
    assert all(is_free(port) for line in first.values() for port in line["ports"].values())
    assert stack.tally("status").returncode == 1


def test_two_homes_side_by_side_one_too_deep_for_a_unix_socket(make_stack):
    one, two = make_stack("one"), make_stack("two")
    two = dataclasses.replace(two, home=Home(two.home / ("d" * 60) / ("e e%" * 15)).create())
    one.up("tiny")
    two.up("tiny")
    ports = [set(stack.home.ports().values()) for stack in (one, two)]
    assert not ports[0] & ports[1]

    # A supervisor that is killed leaves its parts behind; the next `up` ends them.
    before = one.processes()
    os.kill(int((one.home / "supervisor" / "supervisord.pid").read_text()), signal.SIGKILL)
    again = one.tally("up", "tiny")
    assert again.returncode == 0, again.stderr
    assert "Ended what an earlier run had left: tiny." in again.stdout
    assert supervision.wait_for_ends(before, 0) == []

    assert one.tally("down").returncode == 0
    assert two.status()["tiny"]["ready"]
    assert two.tally("down").returncode == 0


def test_a_taken_port_is_named_and_nothing_starts(make_stack):
    stack = make_stack("taken")
    with socket.socket() as other:
        other.bind(("127.0.0.1", stack.home.port("temporal.metrics")))
        other.listen()
        done = stack.tally("up", "tiny", "temporal")
    assert done.returncode == 2
    assert "(port_taken)" in done.stderr
    assert 'delete the line "temporal.metrics"' in done.stderr
    assert "Traceback" not in done.stderr
    assert stack.processes() == []


def test_without_java_nothing_starts_and_the_remedy_is_named(make_stack, tmp_path):
    stack = make_stack("no_java")
    done = stack.tally("up", "kafka", "tiny", PATH=str(tmp_path))
    assert done.returncode == 2
    assert "(no_java)" in done.stderr
    assert "apt-get install default-jre-headless" in done.stderr
    assert stack.processes() == []


def test_without_maven_nothing_starts_and_the_remedy_is_named(make_stack, tmp_path):
    stack = make_stack("no_maven")
    (stack.home / "kafka" / "lib").unlink()
    (tmp_path / "java").symlink_to(shutil.which("java"))
    done = stack.tally("up", "kafka", "tiny", PATH=str(tmp_path))
    assert done.returncode == 2
    assert "(no_maven)" in done.stderr
    assert "apt-get install maven" in done.stderr
    assert stack.processes() == []


def test_a_service_that_fails_shows_its_last_words(make_stack):
    stack = make_stack("broken")
    done = stack.tally("up", "broken", "--wait", "3")
    assert done.returncode == 2
    assert "(not_ready)" in done.stderr
    assert "the last words of broken" in done.stderr
    assert "tally logs broken" in done.stderr
    assert stack.tally("down").returncode == 0
    assert stack.processes() == []


@pytest.fixture
def owner_elsewhere(postgres):
    """A database on a server that is run elsewhere, as its owner."""
    yield postgres.create_database("elsewhere")
    postgres.drop_database("elsewhere")


def test_a_database_given_by_address(make_stack, owner_elsewhere):
    stack = make_stack("elsewhere")
    done = stack.tally("up", "migrations", TALLYSTICK_DATABASE_URL=owner_elsewhere)
    assert done.returncode == 0, done.stderr
    assert stack.status() == {}, "no PostgreSQL of our own"
    url = settings.of(stack.home, settings.Part("x", settings=("DATABASE_URL",), role="relay"))
    with psycopg.connect(url["TALLYSTICK_DATABASE_URL"]) as connection:
        assert connection.execute("select count(*) >= 0 from stream.event").fetchone() == (True,)
    assert stack.tally("down").returncode == 0


def test_a_database_whose_owner_may_make_no_logins(make_stack, postgres, owner_elsewhere):
    with psycopg.connect(postgres.admin_url, autocommit=True) as connection:
        connection.execute("create role modest login password 'modest'")
    modest = logins.with_credentials(owner_elsewhere, "modest", "modest")
    stack = make_stack("modest")
    done = stack.tally("up", "migrations", TALLYSTICK_DATABASE_URL=modest)
    assert done.returncode == 2
    assert "(logins_not_allowed)" in done.stderr
    assert stack.tally("down").returncode == 0
