"""A consumer in another language, by the published contract alone: docs/contract/examples."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from ledger_service.contract import topics
from ledger_service.contract.events import JournalEvent, TransactionPosted, encode, event_type
from ledger_service.engine.relay import Publisher
from ledger_service.engine.sources import Source
from tests import ledger_events, servers

CONTRACT = Path(__file__).parents[3] / "docs" / "contract"
Reader = Callable[[str], subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.skipif(
    shutil.which("javac") is None,
    reason="no `javac`: apt-get install default-jdk-headless",
)


@pytest.fixture(scope="module")
def read(kafka: servers.Kafka, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Runs the example on a ledger's journal; it is compiled once."""
    classes = tmp_path_factory.mktemp("classes")
    jars = f"{servers.JARS}/*"
    example = str(CONTRACT / "examples" / "ReadJournal.java")
    subprocess.run(["javac", "-Werror", "-cp", jars, "-d", str(classes), example], check=True)

    client = tmp_path_factory.mktemp("client") / "client.properties"
    client.write_text(
        f"bootstrap.servers={kafka.server.bootstrap}\n"
        "security.protocol=SASL_PLAINTEXT\n"
        "sasl.mechanism=SCRAM-SHA-512\n"
        "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required "
        'username="tallystick-verifier" password="verifier";\n'
    )

    def run(ledger: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{classes}:{jars}", "ReadJournal",
             str(CONTRACT / "asyncapi.json"), ledger, str(client)],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    return run


def test_a_journal_is_read_and_its_money_adds_up(
    ledger_database, kafka: servers.Kafka, read: Reader
) -> None:
    name = "read_in_java"
    large = 2**63 - 1
    events = ledger_events.history(name, 30)
    seq = len(events)
    more: list[JournalEvent] = [
        ledger_events.posting(
            name, seq + number, "transfer", debit=ledger_events.customer(0),
            credit=ledger_events.customer(1), amount=large,
        )
        for number in (1, 2)
    ]  # fmt: skip
    events += more
    events += ledger_events.holds_and_periods(name, seq + 3)
    events += ledger_events.declarations(name, events[-1].seq + 1)
    ledger_events.store_journal(ledger_database.owner_url, events)
    publisher = Publisher(
        Source(name, "journal"), database_url=ledger_database.url("relay"),
        brokers=kafka.login("relay"), replication=1,
    )  # fmt: skip
    publisher.open()
    assert publisher.publish() == len(events)
    publisher.close()
    posted = [event for event in events if isinstance(event, TransactionPosted)]
    total = sum(int(e.amount) for event in posted for e in event.entries if e.side == "debit")
    assert total > 2**64
    answer = read(name)
    assert answer.stdout == (
        f"{name}: {len(events)} events, {len(posted)} transactions; "
        f"USD debits {total}, credits {total}\n"
    ), answer.stderr


def publish(
    kafka: servers.Kafka, ledger: str, events: list[JournalEvent], change: Any = None
) -> None:
    """Records as the relay makes them; `change` spoils the last one's event and headers."""
    producer = Producer(kafka.admin.client())
    for event in events:
        value = json.loads(encode(event))
        headers = dict(
            topics.headers(
                source=ledger, seq=event.seq, event_type=event_type(event),
                time=event.recorded_at, subject=ledger,
            )
        )  # fmt: skip
        if change is not None and event is events[-1]:
            change(value, headers)
        producer.produce(
            topics.journal_topic(ledger), json.dumps(value).encode(), ledger, 0,
            headers=list(headers.items()),
        )  # fmt: skip
    assert producer.flush(30) == 0


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("float", lambda v, h: v["entries"][0].update(amount=12.5), "entries[].amount: must look like"),
        ("hole", lambda v, h: v.update(seq=99), "seq 99 follows 9"),
        ("header", lambda v, h: h.pop("ts_seq"), "headers: lacks ts_seq"),
    ],
)  # fmt: skip
def test_what_breaks_the_contract_ends_the_reading(
    kafka: servers.Kafka, read: Reader, name: str, change: Any, said: str
) -> None:
    ledger = f"spoilt_{name}"
    topic = topics.journal_topic(ledger)
    admin = AdminClient(kafka.admin.client())
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    publish(kafka, ledger, ledger_events.history(ledger, 2), change)
    answer = read(ledger)
    # whoever reads every topic of this Kafka later would find the spoilt record
    admin.delete_topics([topic])[topic].result(30)
    assert answer.returncode == 1
    assert said in answer.stderr
    assert answer.stdout == ""
