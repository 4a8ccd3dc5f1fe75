"""How Kafka is reached: secured unless somebody says otherwise."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from ledger_service.contract.brokers import Brokers, BrokerSettingError, refusal, refused_login
from ledger_service.contract.environment import MissingSetting

KAFKA = "TALLYSTICK_KAFKA_"


def test_without_a_word_on_it_a_login_over_tls_is_asked_for(monkeypatch):
    monkeypatch.setenv(KAFKA + "BOOTSTRAP", "k:9094")
    with pytest.raises(MissingSetting, match="Set TALLYSTICK_KAFKA_USERNAME"):
        Brokers.from_settings()
    monkeypatch.setenv(KAFKA + "USERNAME", "me")
    with pytest.raises(MissingSetting, match="Set TALLYSTICK_KAFKA_PASSWORD"):
        Brokers.from_settings()
    monkeypatch.setenv(KAFKA + "PASSWORD", "s3cr3t")
    one = Brokers.from_settings()
    assert one.client(error_cb=print) == {
        "bootstrap.servers": "k:9094", "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "me", "sasl.password": "s3cr3t",
        "error_cb": print,
    }  # fmt: skip
    assert "s3cr3t" not in repr(one)
    monkeypatch.setenv(KAFKA + "CA", "/ca.pem")
    assert Brokers.from_settings().client()["ssl.ca.location"] == "/ca.pem"


def test_plain_is_what_somebody_asked_for(monkeypatch):
    monkeypatch.setenv(KAFKA + "BOOTSTRAP", "k:9092")
    monkeypatch.setenv(KAFKA + "SECURITY", "PLAINTEXT")
    assert Brokers.from_settings().client() == {
        "bootstrap.servers": "k:9092", "security.protocol": "PLAINTEXT",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [("SECURITY", "SSL"), ("MECHANISM", "GSSAPI")])
def test_a_slip_of_the_pen_is_named(monkeypatch, name, value):
    for setting, given in (
        ("BOOTSTRAP", "k:1"),
        ("USERNAME", "me"),
        ("PASSWORD", "x"),
        (name, value),
    ):
        monkeypatch.setenv(KAFKA + setting, given)
    with pytest.raises(BrokerSettingError, match=f"{KAFKA}{name} is '{value}', must be one of"):
        Brokers.from_settings()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KafkaError._AUTHENTICATION, "kafka_login_refused"),
        (KafkaError._SSL, "kafka_not_trusted"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "kafka_not_allowed"),
        (KafkaError.NOT_ENOUGH_REPLICAS, "kafka_not_answering"),
        (KafkaError._TRANSPORT, "kafka_not_answering"),
        (KafkaError.UNKNOWN, "kafka_failed"),
    ],
)
def test_what_kafka_refuses_has_a_name(error, code):
    said = refusal(KafkaException(KafkaError(error, "in its own words")))
    assert said.code == code
    assert "in its own words" in said.message


def test_a_refused_login_is_found_among_what_a_client_met():
    down, refused = KafkaError(KafkaError._TRANSPORT), KafkaError(KafkaError._AUTHENTICATION)
    assert refused_login([down, refused]) is refused
    assert refused_login([down]) is None
