"""What a topic of ours must be: made so, and held to it where it is there already."""

from __future__ import annotations

import concurrent.futures

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage]
    NewTopic,  # pyright: ignore[reportPrivateImportUsage]
    ResourceType,  # pyright: ignore[reportPrivateImportUsage]
)

from ledger_service.contract.brokers import Brokers, refused_login
from ledger_service.engine.sources import RelayError, Source

KAFKA_WAIT_S = 30.0
LARGEST_BATCH_BYTES = 1_048_588
"""Of a topic; the client sends less. An event has at most 60 KiB."""


def topic_settings(source: Source, replication: int) -> dict[str, str]:
    """What a topic must be: kept for ever, and on a cluster never in the hands of one broker."""
    return {
        "cleanup.policy": "compact" if source.compacted else "delete",
        "retention.ms": "-1",
        "retention.bytes": "-1",
        "min.insync.replicas": str(max(1, replication - 1)),
        # a broker that lacks what others confirmed must not lead
        "unclean.leader.election.enable": "false",
        "max.message.bytes": str(LARGEST_BATCH_BYTES),
    }


_AT_LEAST = ("min.insync.replicas", "max.message.bytes")
"""Settings of which a topic may have more."""


def ensure_topic(brokers: Brokers, source: Source, replication: int) -> None:
    """Create the topic of `source`, or check one that is there.

    Errors: `RelayError` `topic_settings_differ` for a topic that could lose events or their order;
    `KafkaException` where the cluster can't be asked, or refuses the login.
    """
    wanted = topic_settings(source, replication)
    errors: list[KafkaError] = []
    admin = AdminClient(brokers.client(error_cb=errors.append))
    creation = admin.create_topics(
        [NewTopic(source.topic, num_partitions=1, replication_factor=replication, config=wanted)],
        operation_timeout=KAFKA_WAIT_S,
        # The client itself ends the wait: its error is a `KafkaException`, which a future's is not.
        request_timeout=KAFKA_WAIT_S,
    )[source.topic]
    _wait(admin, creation, errors)
    try:
        creation.result()
    except KafkaException as failure:
        if failure.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
    else:
        return
    partitions = (
        admin.list_topics(source.topic, timeout=KAFKA_WAIT_S).topics[source.topic].partitions
    )
    resource = ConfigResource(ResourceType.TOPIC, source.topic)
    found = admin.describe_configs([resource], request_timeout=KAFKA_WAIT_S)[resource].result()
    differing = [
        f"{name} is {found[name].value}, must be {value}"
        for name, value in wanted.items()
        if (
            int(found[name].value) < int(value) if name in _AT_LEAST else found[name].value != value
        )
    ]
    if len(partitions) > 1:
        differing.append(f"it has {len(partitions)} partitions, must have 1")
    replicas = min(len(partition.replicas) for partition in partitions.values())
    if replicas < replication:
        differing.append(
            f"it has {replicas} replicas, must have {replication} (TALLYSTICK_KAFKA_REPLICATION)"
        )
    if differing:
        raise RelayError(
            "topic_settings_differ",
            f"Topic {source.topic} could lose events or their order: {'; '.join(differing)}. "
            "Correct its settings and start the relay again.",
        )


def _wait(
    admin: AdminClient, answer: concurrent.futures.Future[None], errors: list[KafkaError]
) -> None:
    """Until there is an answer. The client would try a refused login until the time is up."""
    while not concurrent.futures.wait([answer], timeout=0.1).done:
        admin.poll(0)
        if refused := refused_login(errors):
            raise KafkaException(refused)
