"""How a client of ours reaches Kafka: one place that makes the client's settings of ours.

Secured unless somebody says otherwise: without `TALLYSTICK_KAFKA_SECURITY` a client asks for TLS and a
login. What the brokers refuse gets a name and a remedy here, too, so that relay, verification and
pipelines say the same of the same fault.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, TypeVar

from ledger_service.contract import environment

SECURITY = ("SASL_SSL", "SASL_PLAINTEXT", "PLAINTEXT")
"""Kafka's names: login over TLS; login without TLS (this machine, a closed network); neither."""
MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")

READER_GROUP = "tallystick-reader"
"""The client demands a group of every reader; ours assign their topics, and nobody commits to it."""


class BrokerSettingError(ValueError):
    """A setting of Kafka that has no such value. `code` is stable."""

    code = "bad_kafka_setting"


@dataclasses.dataclass(frozen=True)
class Brokers:
    """A Kafka cluster, and who asks. Errors: `BrokerSettingError`."""

    bootstrap: str
    """host:port[,host:port]"""
    security: str = "SASL_SSL"
    username: str = ""
    password: str = dataclasses.field(default="", repr=False)
    mechanism: str = "SCRAM-SHA-512"
    ca: str = ""
    """PEM file of the authority that signed the brokers' certificates; empty: the machine's own."""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("SECURITY", self.security, SECURITY),
            ("MECHANISM", self.mechanism, MECHANISMS),
        ):
            if value not in known:
                raise BrokerSettingError(
                    f"TALLYSTICK_KAFKA_{name} is {value!r}, must be one of {', '.join(known)}."
                )

    @classmethod
    def from_settings(cls) -> Brokers:
        """What the environment names. Errors: `MissingSetting`, `BrokerSettingError`."""
        bootstrap = environment.read("TALLYSTICK_KAFKA_BOOTSTRAP")
        security = environment.read("TALLYSTICK_KAFKA_SECURITY")
        if security == "PLAINTEXT":
            return cls(bootstrap, security)
        return cls(
            bootstrap,
            security,
            environment.read("TALLYSTICK_KAFKA_USERNAME"),
            environment.read("TALLYSTICK_KAFKA_PASSWORD"),
            environment.read("TALLYSTICK_KAFKA_MECHANISM"),
            environment.read("TALLYSTICK_KAFKA_CA"),
        )

    def client(self, **more: Any) -> dict[str, Any]:
        """What every client of confluent-kafka begins with, and `more`."""
        settings: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap,
            "security.protocol": self.security,
        }
        if self.security != "PLAINTEXT":
            settings |= {
                "sasl.mechanism": self.mechanism,
                "sasl.username": self.username,
                "sasl.password": self.password,
            }
        if self.security == "SASL_SSL" and self.ca:
            settings["ssl.ca.location"] = self.ca
        return settings | more

    def reader(self, **more: Any) -> dict[str, Any]:
        """A consumer that sees what is committed, and says where a topic ends."""
        return {
            **self.client(**more),
            "group.id": READER_GROUP,
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            # By default a full queue rests a second, in which its reader has long emptied it.
            "fetch.queue.backoff.ms": 10,
        }


class ClientError(Protocol):
    """What this module knows of confluent-kafka's `KafkaError`."""

    def name(self) -> str: ...
    def str(self) -> str: ...


_Error = TypeVar("_Error", bound=ClientError)


class Refusal(NamedTuple):
    """Why Kafka did not do it. `code` is stable."""

    code: str
    message: str


_NOT_ALLOWED = (
    "kafka_not_allowed",
    "The login lacks a right: give it those of its part (docs/operations.md, On a Kafka cluster).",
)
_NO_ANSWER = (
    "kafka_not_answering",
    "No broker answers, or too few confirm (min.insync.replicas). Nothing is lost, it goes on by itself.",
)
_OTHERWISE = ("kafka_failed", "Look into the brokers' logs; nothing is lost meanwhile.")
_REFUSALS = {
    "_AUTHENTICATION": (
        "kafka_login_refused",
        "Look at TALLYSTICK_KAFKA_USERNAME, _PASSWORD and _MECHANISM, and whether the login was made.",
    ),
    "_SSL": (
        "kafka_not_trusted",
        "No TLS with the brokers: look at TALLYSTICK_KAFKA_SECURITY and TALLYSTICK_KAFKA_CA.",
    ),
    "TOPIC_AUTHORIZATION_FAILED": _NOT_ALLOWED,
    "GROUP_AUTHORIZATION_FAILED": _NOT_ALLOWED,
    "CLUSTER_AUTHORIZATION_FAILED": _NOT_ALLOWED,
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED": _NOT_ALLOWED,
    **dict.fromkeys(
        (
            "_TRANSPORT", "_TIMED_OUT", "_TIMED_OUT_QUEUE", "_MSG_TIMED_OUT", "_ALL_BROKERS_DOWN",
            "_RESOLVE", "REQUEST_TIMED_OUT", "NOT_ENOUGH_REPLICAS",
            "NOT_ENOUGH_REPLICAS_AFTER_APPEND", "LEADER_NOT_AVAILABLE", "COORDINATOR_NOT_AVAILABLE",
        ),
        _NO_ANSWER,
    ),
}  # fmt: skip


def refused_login(errors: Iterable[_Error]) -> _Error | None:
    """The error that says that the brokers don't let us in, among those that a client met meanwhile.

    The client itself tries on until the time of a call is up, and then says only that it is.
    """
    return next((error for error in errors if error.name() in ("_AUTHENTICATION", "_SSL")), None)


def refusal(failure: BaseException) -> Refusal:
    """The name of what a `KafkaException` tells, with what to do and the client's own words."""
    error: ClientError = failure.args[0]
    code, remedy = _REFUSALS.get(error.name(), _OTHERWISE)
    return Refusal(code, f"{remedy} ({error.name()}: {error.str()})")
