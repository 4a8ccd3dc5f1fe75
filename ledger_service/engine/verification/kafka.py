"""Kafka is the journal (P7): every committed record of a topic against the event of its `seq`."""

from __future__ import annotations

from collections.abc import Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from ledger_service.contract import topics
from ledger_service.contract.brokers import Brokers, refusal, refused_login
from ledger_service.engine.verification.report import Connection, Report, Row

_WAIT_S = 30.0
_PAGE = 2000
_SOURCES = """
  select 'ledger' as kind, ledger as name from ledger.head where seq > 0
  union all select 'stream', stream from stream.head where seq > 0
"""
_JOURNAL = (
    "select seq, bytes from ledger.journal where ledger = %s and seq between %s and %s order by seq"
)
_STREAM = (
    "select seq, bytes from stream.event where stream = %s and seq between %s and %s order by seq"
)


def check_kafka(
    connection: Connection, report: Report, brokers: Brokers, ledger: str | None = None
) -> None:
    """Compare each topic with what it carries, byte for byte and in order.

    A topic may lag; it may not lead, skip or differ. Findings are in the table `kafka`, their row
    the topic. A topic that can't be read is a finding.
    """
    for source in connection.execute(_SOURCES).fetchall():
        name, is_ledger = source["name"], source["kind"] == "ledger"
        if ledger not in (None, name if is_ledger else None):
            continue
        topic = topics.journal_topic(name) if is_ledger else topics.stream_topic(name)
        owner = name if is_ledger else ""
        try:
            found = pages(brokers, topic)
            dense = is_ledger or name not in topics.COMPACTED_STREAMS
            sql = _JOURNAL if is_ledger else _STREAM
            _compare(connection, report, (owner, name, topic), sql, found, dense=dense)
        except KafkaException as error:
            said = refusal(error)
            message = f"{said.code}: {said.message}"
            report.add("kafka", owner, "topic_unreadable", message, row=topic)
    report.tables.append("kafka")


def _compare(
    connection: Connection,
    report: Report,
    names: tuple[str, str, str],
    sql: str,
    pages: Iterator[list[Message]],
    *,
    dense: bool,
) -> None:
    owner, name, topic = names
    last = 0
    for page in pages:
        records = [(topics.seq_of(dict(record.headers() or ())), record.value()) for record in page]
        found = [seq for seq, _ in records if seq is not None]
        span = (name, min(found, default=0), max(found, default=0))
        stored: dict[int, Row] = {row["seq"]: row for row in connection.execute(sql, span)}
        for seq, content in records:
            code = None
            if seq is None:
                code = "foreign_record"
            elif seq not in stored:
                code = "not_in_journal"
            elif bytes(stored[seq]["bytes"]) != content:
                code = "bytes_differ"
            elif (dense and seq != last + 1) or seq <= last:
                code = "out_of_order"
            if code is not None:
                message = f"record {seq} behind {last}: {code.replace('_', ' ')}"
                report.add("kafka", owner, code, message, seq=seq, row=topic)
            last = seq or last


def pages(brokers: Brokers, topic: str) -> Iterator[list[Message]]:
    """Every committed record of a topic, in pages. Errors: `KafkaException`."""
    errors: list[KafkaError] = []
    consumer = Consumer(brokers.reader(error_cb=errors.append))
    try:
        yield from _pages(consumer, topic)
    except KafkaException:
        consumer.poll(0)
        if refused := refused_login(errors):
            raise KafkaException(refused) from None
        raise
    finally:
        consumer.close()


def _pages(consumer: Consumer, topic: str) -> Iterator[list[Message]]:
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=_WAIT_S)
    consumer.assign([TopicPartition(topic, 0, low)])
    page: list[Message] = []
    while low < high:
        record = consumer.poll(_WAIT_S)
        if record is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"no answer on {topic}"))  # noqa: SLF001 - documented name
        error = record.error()
        if error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            break
        if error is not None:
            raise KafkaException(error)
        page.append(record)
        if len(page) == _PAGE:
            yield page
            page = []
    if page:
        yield page
