"""`tally verify --kafka`: a topic may lag behind the journal, it may not differ from it."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer
from psycopg.rows import dict_row

from ledger_service.contract import topics
from ledger_service.engine.relay import Publisher
from ledger_service.engine.sources import Source
from ledger_service.engine.verification.kafka import check_kafka
from ledger_service.engine.verification.report import Report
from tests import ledger_events, servers

LEDGER = "compared"


def findings(database, kafka: servers.Kafka) -> set[tuple[str, int | None]]:
    rows: Any = dict_row
    report = Report()
    with psycopg.connect(database.url("verifier"), row_factory=rows) as connection:
        check_kafka(connection, report, kafka.login("verifier"), LEDGER)
    assert {f.row for f in report.findings} <= {topics.journal_topic(LEDGER)}
    return {(f.code, f.seq) for f in report.findings}


def test_lag_is_no_finding_and_every_difference_is_one(
    ledger_database, kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = ledger_events.history(LEDGER, 40)
    url = ledger_database.owner_url
    ledger_events.store_journal(url, events[:30])
    assert {code for code, _ in findings(ledger_database, kafka)} == {"topic_unreadable"}
    publisher = Publisher(
        Source(LEDGER, "journal"), database_url=ledger_database.url("relay"),
        brokers=kafka.login("relay"), replication=1,
    )  # fmt: skip
    publisher.open()
    assert publisher.publish() == 30
    publisher.close()
    assert findings(ledger_database, kafka) == set()
    ledger_events.store_journal(url, events[30:])
    assert findings(ledger_database, kafka) == set(), "Kafka lags, and that is all"
    with psycopg.connect(url) as connection:
        connection.execute("alter table ledger.journal disable trigger user")
        connection.execute("update ledger.journal set bytes = bytes || ' ' where seq = 7")
        connection.execute("delete from ledger.journal where seq = 9")
    assert findings(ledger_database, kafka) == {("bytes_differ", 7), ("not_in_journal", 9)}
    producer = Producer(kafka.admin.client())
    topic = topics.journal_topic(LEDGER)
    producer.produce(topic, b"{}", partition=0)
    producer.produce(topic, b"another", headers=[("ts_seq", b"12")], partition=0)
    producer.flush(30)
    assert findings(ledger_database, kafka) - {("bytes_differ", 7), ("not_in_journal", 9)} == {
        ("foreign_record", None),
        ("bytes_differ", 12),
    }
