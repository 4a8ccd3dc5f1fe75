"""Kafka lets nobody in without a login, and each login may do what its part needs and no more."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)
from psycopg.rows import dict_row

from ledger_service.contract import topics
from ledger_service.contract.brokers import Brokers, refusal
from ledger_service.engine import topic_settings
from ledger_service.engine.relay import Publisher
from ledger_service.engine.replay import replay
from ledger_service.engine.sources import RelayError, Source
from ledger_service.engine.verification import kafka as verification
from ledger_service.engine.verification.report import Report
from ledger_service.stack import probes
from ledger_service.stack.kafka import rights
from pipelines.ingestion import topic_reader
from pipelines.ingestion.topic_reader import TopicReader
from tests import ledger_events
from tests.integration.relay.test_relay import wait_for

OURS, OTHER = "tallystick.guarded.journal.v1", "again.guarded"


@pytest.fixture(scope="module")
def guarded(kafka) -> Any:
    """A topic of the relay and one of somebody else."""
    admin = admin_client(kafka.admin)
    for future in admin.create_topics([NewTopic(OURS, 1, 1), NewTopic(OTHER, 1, 1)]).values():
        future.result(20)
    yield kafka
    for future in admin.delete_topics([OURS, OTHER]).values():
        future.result(20)


@functools.cache
def admin_client(brokers: Brokers) -> AdminClient:
    """One that lives until its answer is there."""
    return AdminClient({**brokers.client(), "log_level": 0})


def create(brokers: Brokers, topic: str) -> None:
    more = f"{topic}.more"
    admin_client(brokers).create_topics([NewTopic(more, 1, 1)])[more].result(20)


def delete(brokers: Brokers, topic: str) -> None:
    admin_client(brokers).delete_topics([topic])[topic].result(20)


def enlarge(brokers: Brokers, topic: str) -> None:
    admin_client(brokers).create_partitions([NewPartitions(topic, 2)])[topic].result(20)


def cut_off(brokers: Brokers, topic: str) -> None:
    """Delete its first records."""
    place = TopicPartition(topic, 0, 0)
    admin_client(brokers).delete_records([place])[place].result(20)


def write(brokers: Brokers, topic: str) -> None:
    failed = []
    producer = Producer({**brokers.client(), "log_level": 0})
    producer.produce(topic, b"x", partition=0, on_delivery=lambda error, _: failed.append(error))
    assert producer.flush(20) == 0
    if failed[0]:
        raise KafkaException(failed[0])


def read(brokers: Brokers, topic: str) -> None:
    consumer = Consumer({**brokers.reader(), "log_level": 0})
    try:
        if refused := consumer.list_topics(topic, timeout=20).topics[topic].error:
            raise KafkaException(refused)
        consumer.assign([TopicPartition(topic, 0, 0)])
        record = consumer.poll(20)
        if record.error() and record.error().code() != topic_reader._PARTITION_EOF:
            raise KafkaException(record.error())
    finally:
        consumer.close()


def write_as(prefix: str) -> Callable[[Brokers, str], None]:
    def act(brokers: Brokers, topic: str) -> None:
        settings = {**brokers.client(), "transactional.id": prefix + topic, "log_level": 0}
        Producer(settings).init_transactions(20)

    return act


AS_RELAY, AS_REPLAY = write_as(topics.RELAY_TRANSACTIONS), write_as(topics.REPLAY_TRANSACTIONS)


@pytest.mark.parametrize(
    ("login", "act", "topic"),
    [
        ("relay", delete, OURS),
        ("relay", cut_off, OURS),
        ("relay", enlarge, OURS),
        ("relay", create, OTHER),
        ("relay", write, OTHER),
        ("relay", AS_REPLAY, OURS),
        ("pipelines", write, OURS),
        ("pipelines", create, OURS),
        ("pipelines", delete, OURS),
        ("pipelines", read, OTHER),
        ("pipelines", AS_RELAY, OURS),
        ("verifier", write, OURS),
        ("verifier", delete, OURS),
        ("verifier", AS_RELAY, OURS),
        ("replay", write, OURS),
        ("replay", create, OURS),
        ("replay", read, OURS),
        ("replay", delete, OTHER),
        ("replay", AS_RELAY, OURS),
    ],
)
def test_what_a_login_has_no_right_to_is_refused_by_the_broker(guarded, login, act, topic) -> None:
    with pytest.raises(KafkaException) as caught:
        act(guarded.login(login), topic)
    said = refusal(caught.value)
    assert said.code == "kafka_not_allowed"
    assert "docs/operations.md" in said.message


@pytest.mark.parametrize(
    ("login", "act", "topic"),
    [
        ("relay", read, OURS),
        ("relay", AS_RELAY, OURS),
        ("pipelines", read, OURS),
        ("verifier", read, OURS),
        ("replay", read, OTHER),
        ("replay", AS_REPLAY, OTHER),
    ],
)
def test_what_a_part_needs_is_granted(guarded, login, act, topic) -> None:
    act(guarded.login(login), topic)


def test_nobody_gets_in_without_a_login_of_that_port(kafka) -> None:
    clients, brokers = kafka.server.bootstrap, kafka.admin.bootstrap
    for stranger in (
        Brokers(clients, "PLAINTEXT"),
        Brokers(clients, "SASL_PLAINTEXT", "stranger", "x"),
        Brokers(clients, "SASL_PLAINTEXT", "tallystick-relay", "wrong"),
        # whoever may all is known at the brokers' own port only, and no part is known there
        Brokers(clients, "SASL_PLAINTEXT", "admin", "admin"),
        Brokers(clients, "SASL_PLAINTEXT", "admin", "admin", "PLAIN"),
        Brokers(brokers, "SASL_PLAINTEXT", "tallystick-relay", "relay"),
        Brokers(brokers, "SASL_PLAINTEXT", "admin", "wrong", "PLAIN"),
    ):
        assert probes.kafka(stranger, seconds=0.5) is not None
    assert probes.kafka(kafka.login("relay")) is None
    assert kafka.server.probe() is None
    with pytest.raises(KafkaException):
        create(kafka.server.known("probe"), "probed")


def test_every_part_names_a_refused_login(
    ledger_database, kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "_WAIT_S", 2.0)
    monkeypatch.setattr(topic_reader, "KAFKA_WAIT_S", 2.0)
    ledger_events.store_journal(ledger_database.owner_url, ledger_events.history("kept_out", 3))
    source, url = Source("kept_out", "journal"), ledger_database.url("relay")

    with pytest.raises(KafkaException) as caught:
        Publisher(
            source, database_url=url, brokers=kafka.login("relay", "wrong"), replication=1
        ).open()
    said = refusal(caught.value)
    assert said.code == "kafka_login_refused"
    assert "TALLYSTICK_KAFKA_USERNAME" in said.message

    with pytest.raises(RelayError) as refused:
        replay(
            source, OTHER, database_url=url, brokers=kafka.login("replay", "wrong"), replication=1
        )
    assert refused.value.code == "kafka_login_refused"

    reader = TopicReader(kafka.login("pipelines", "wrong"))
    with pytest.raises(KafkaException) as caught:
        reader.discover()
    reader.close()
    assert refusal(caught.value).code == "kafka_login_refused"

    rows: Any = dict_row
    report = Report()
    with psycopg.connect(ledger_database.url("verifier"), row_factory=rows) as connection:
        verification.check_kafka(connection, report, kafka.login("verifier", "wrong"), "kept_out")
    assert [(f.code, f.message.partition(":")[0]) for f in report.findings] == [
        ("topic_unreadable", "kafka_login_refused")
    ]


def test_a_relay_that_is_refused_says_why_and_goes_on_once_it_is_let_in(
    ledger_database, guarded, relay
) -> None:
    events = ledger_events.history("let_in_later", 3)
    ledger_events.store_journal(ledger_database.owner_url, events)
    topic = topics.journal_topic("let_in_later")
    guarded_login = guarded.login("relay", "not yet the password")
    process = relay(brokers=guarded_login)

    def figures() -> dict:
        return process.readiness().get("sources", {}).get(topic, {})

    wait_for(lambda: figures().get("alarm") == "kafka_login_refused")
    assert figures()["state"] == "waiting"
    assert figures()["lag"] == len(events)
    assert "TALLYSTICK_KAFKA_USERNAME" in figures()["detail"]
    assert process.readiness()["ready"] is False
    passwords = {"relay": guarded_login.password}
    rights.grant(guarded.admin, passwords)
    try:
        wait_for(lambda: figures().get("seq") == len(events))
        assert figures()["alarm"] is None
    finally:
        rights.grant(guarded.admin, {"relay": "relay"})


def test_rights_that_are_not_in_the_table_are_taken_back(kafka) -> None:
    admin = admin_client(kafka.admin)
    too_much = AclBinding(
        ResourceType.TOPIC, topics.RESERVED, ResourcePatternType.PREFIXED,
        "User:tallystick-pipelines", "*", AclOperation.WRITE, AclPermissionType.ALLOW,
    )  # fmt: skip
    others = AclBinding(
        ResourceType.TOPIC, "theirs", ResourcePatternType.LITERAL,
        "User:somebody-else", "*", AclOperation.WRITE, AclPermissionType.ALLOW,
    )  # fmt: skip
    for future in admin.create_acls([too_much, others]).values():
        future.result(20)
    before = rights._granted(admin)
    rights.grant(kafka.admin, {"relay": "relay"})
    assert before - rights._granted(admin) == {too_much}
    anything = rights._FILTER(
        ResourceType.ANY, None, ResourcePatternType.ANY,
        "User:somebody-else", None, AclOperation.ANY, AclPermissionType.ANY,
    )  # fmt: skip
    assert admin.describe_acls(anything).result(20) == [others]
    admin.delete_acls([anything])[anything].result(20)


@pytest.mark.parametrize(
    ("partitions", "config", "replication", "said"),
    [
        (1, {"retention.ms": "1000"}, 1, "retention.ms is 1000, must be -1"),
        (1, {"retention.bytes": "1000"}, 1, "retention.bytes is 1000, must be -1"),
        (1, {"cleanup.policy": "compact"}, 1, "cleanup.policy is compact, must be delete"),
        (1, {"max.message.bytes": "70000"}, 1, "max.message.bytes is 70000, must be 1048588"),
        (
            1,
            {"unclean.leader.election.enable": "true"},
            1,
            "unclean.leader.election.enable is true",
        ),
        (2, {}, 1, "it has 2 partitions, must have 1"),
        (1, {}, 3, "min.insync.replicas is 1, must be 2; it has 1 replicas, must have 3"),
        (1, {"max.message.bytes": "2000000"}, 1, None),
    ],
)
def test_a_topic_of_other_settings_is_an_alarm_that_names_them(
    kafka, partitions, config, replication, said
) -> None:
    source = Source("differing", "journal")
    admin = admin_client(kafka.admin)
    admin.create_topics([NewTopic(source.topic, partitions, 1, config=config)])[
        source.topic
    ].result(20)
    try:
        if said is None:
            topic_settings.ensure_topic(kafka.login("relay"), source, replication)
            return
        with pytest.raises(RelayError, match=said) as caught:
            topic_settings.ensure_topic(kafka.login("relay"), source, replication)
        assert caught.value.code == "topic_settings_differ"
    finally:
        delete(kafka.admin, source.topic)


def test_a_new_topic_states_what_it_must_be(kafka, monkeypatch) -> None:
    # Not the parties' own: other tests have that topic.
    monkeypatch.setattr(topics, "COMPACTED_STREAMS", {"stated"})
    for source, policy in (
        (Source("stated", "journal"), "delete"),
        (Source("stated", "stream"), "compact"),
    ):
        topic_settings.ensure_topic(kafka.login("relay"), source, 1)
        resource = topic_settings.ConfigResource(ResourceType.TOPIC, source.topic)
        found = admin_client(kafka.admin).describe_configs([resource])[resource].result(20)
        stated = {name: one.value for name, one in found.items() if not one.is_default}
        assert stated == {
            "cleanup.policy": policy, "retention.ms": "-1", "retention.bytes": "-1",
            "min.insync.replicas": "1", "max.message.bytes": "1048588",
            "unclean.leader.election.enable": "false",
        }  # fmt: skip
        delete(kafka.admin, source.topic)
