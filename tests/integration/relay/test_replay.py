"""A range of a journal once more: the same records, in a topic of their own."""

from __future__ import annotations

import contextlib
import itertools

import psycopg
import pytest
from click.testing import CliRunner
from confluent_kafka.admin import AdminClient

from ledger_service.contract import failpoints, topics
from ledger_service.contract.brokers import Brokers
from ledger_service.contract.events import encode
from ledger_service.engine import cli, relay
from ledger_service.engine.relay import Publisher
from ledger_service.engine.replay import replay
from ledger_service.engine.sources import RelayError, Source
from ledger_service.engine.verification.kafka import pages
from tests import ledger_events
from tests.integration.relay.test_relay import read_topic

_names = itertools.count(1)


@pytest.fixture
def ledger() -> str:
    return f"replayed{next(_names)}"


@pytest.fixture
def settings(ledger_database, kafka) -> dict:
    return {
        "database_url": ledger_database.url("relay"),
        "brokers": kafka.login("replay"),
        "replication": 1,
    }


@pytest.fixture
def relay_settings(settings, kafka) -> dict:
    return {**settings, "brokers": kafka.login("relay")}


def journal(ledger_database, ledger: str, count: int) -> list[tuple[int, bytes]]:
    """Store a journal; gives what a topic of it holds."""
    events = ledger_events.history(ledger, count)
    ledger_events.store_journal(ledger_database.owner_url, events)
    return [(event.seq, encode(event)) for event in events]


def whole_records(brokers: Brokers, topic: str) -> list[tuple]:
    """Key, value and headers of every committed record."""
    return [
        (record.key(), record.value(), record.headers())
        for page in pages(brokers, topic)
        for record in page
    ]


def refused(settings: dict, ledger: str, into: str, **range_) -> str:
    with pytest.raises(RelayError) as caught:
        replay(Source(ledger, "journal"), into, **range_, **settings)
    return caught.value.code


def test_a_range_is_published_once_however_often_it_is_asked_for(
    ledger_database, kafka, ledger, settings, relay_settings
):
    recorded = journal(ledger_database, ledger, 40)
    source, into = Source(ledger, "journal"), f"again.{ledger}"
    for _ in range(2):
        assert replay(source, into, first=11, last=30, **settings) == 20
        assert read_topic(kafka.admin, into) == recorded[10:30]
    # more of it, in the same topic; keys and headers are those of the relay's
    assert replay(source, into, first=11, **settings) == len(recorded) - 10
    with contextlib.closing(Publisher(source, **relay_settings)) as publisher:
        publisher.open()
        publisher.publish()
    assert whole_records(kafka.admin, into) == whole_records(kafka.admin, source.topic)[10:]
    assert read_topic(kafka.admin, into) == recorded[10:]
    with psycopg.connect(ledger_database.owner_url) as connection:
        stored = connection.execute("select count(*) from stream.relay_position").fetchone()
    assert stored == (0,), "the relay's own position is another thing"


def test_one_that_is_killed_goes_on_where_it_was(
    ledger_database, kafka, ledger, settings, monkeypatch
):
    recorded = journal(ledger_database, ledger, 40)
    monkeypatch.setattr(relay, "BATCH_EVENTS", 8)
    reached = itertools.count(1)

    def die(name: str) -> None:
        if name == "relay.before_commit" and next(reached) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(failpoints, "reach", die)
        with pytest.raises(KeyboardInterrupt):
            replay(Source(ledger, "journal"), f"again.{ledger}", **settings)
    assert read_topic(kafka.admin, f"again.{ledger}") == recorded[:16]
    replay(Source(ledger, "journal"), f"again.{ledger}", **settings)
    assert read_topic(kafka.admin, f"again.{ledger}") == recorded


def test_what_can_not_be_replayed_is_refused_by_name(ledger_database, kafka, ledger, settings):
    journal(ledger_database, ledger, 40)
    into = f"again.{ledger}"
    assert refused(settings, ledger, topics.journal_topic(ledger)) == "topic_reserved"
    assert refused(settings, "nobody", into) == "unknown_source"
    for first, last in ((0, 5), (5, 4), (1, 10_000)):
        assert refused(settings, ledger, into, first=first, last=last) == "no_such_range"
    replay(Source(ledger, "journal"), into, first=5, last=9, **settings)
    assert refused(settings, ledger, into, first=1, last=8) == "topic_holds_others"
    assert refused(settings, ledger, into, first=20) == "topic_holds_others"
    # it ends within what is asked for, and did not begin there
    assert refused(settings, ledger, into, first=7, last=12) == "replay_differs"


def test_the_command_says_what_it_published(ledger_database, kafka, ledger, settings, monkeypatch):
    journal(ledger_database, ledger, 20)
    monkeypatch.setenv("TALLYSTICK_DATABASE_URL", settings["database_url"])
    for name, value in kafka.settings("replay").items():
        monkeypatch.setenv(name, value)
    asked = [ledger, f"again.{ledger}", "--from", "3", "--to", "7"]
    said = CliRunner().invoke(cli.replay, asked, catch_exceptions=False)
    assert said.output == f"again.{ledger}: 5 events of {ledger}, as the journal holds them\n"


def test_a_topic_that_is_lost_is_published_again_by_the_relay(
    ledger_database, kafka, ledger, relay_settings
):
    recorded = journal(ledger_database, ledger, 40)
    source, admin = Source(ledger, "journal"), AdminClient(kafka.admin.client())
    for _ in range(2):
        with contextlib.closing(Publisher(source, **relay_settings)) as publisher:
            publisher.open()
            while publisher.publish():
                pass
        assert read_topic(kafka.admin, source.topic) == recorded
        admin.delete_topics([source.topic])[source.topic].result(30)
