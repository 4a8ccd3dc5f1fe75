"""The commands with which people mend a landing, on a home of their own."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from ledger_service.contract import topics
from ledger_service.contract.events import encode, event_type
from pipelines.cli import pipeline
from pipelines.ingestion import topic_reader
from tests import ledger_events
from tests.integration.pipelines.surroundings import TopicWriter

LEDGER = "mended"
TOPIC = topics.journal_topic(LEDGER)


@pytest.fixture
def tally(kafka, home, monkeypatch):
    """Runs `tally pipeline …`; gives its exit code and what it printed."""
    for name, value in kafka.settings("pipelines").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TALLYSTICK_API_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("TALLYSTICK_API_KEY", "nobody asks")

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(pipeline, arguments)
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        return result.exit_code, result.output

    return run


def test_from_quarantine_back_into_the_landing(kafka, tally):
    writer = TopicWriter(kafka.admin)
    events = ledger_events.history(LEDGER, 12)
    writer.create(TOPIC)
    for event in events:
        content = encode(event) if event.seq != 15 else b"{"
        writer.write(TOPIC, event.seq, event_type(event), content, LEDGER)
    writer.flush()
    code, said = tally("requeue", LEDGER)
    assert code == 1
    assert f"{LEDGER} has not landed" in said
    # Nothing of it has landed in this home; from here on it has.
    from pipelines.flow import Flow

    flow = Flow.from_settings()
    with flow.lock.held(1):
        flow.recover()
        assert flow.land().landed[LEDGER] == len(events)
        flow.convert()
    flow.close()
    code, said = tally("quarantine")
    assert code == 0
    assert f"{LEDGER}\t15\tnot_json\tthe bytes\n" in said
    assert tally("requeue", LEDGER, "--code", "unknown_type")[1].startswith("0 of 0 events")
    assert tally("requeue", LEDGER, "--first", "15", "--last", "15")[1].startswith("0 of 1 events")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TALLYSTICK_KAFKA_BOOTSTRAP", "127.0.0.1:9")
        patch.setattr(topic_reader, "KAFKA_WAIT_S", 0.5)
        code, said = tally("run-once")
    assert code == 1
    assert said.startswith("Error: kafka_not_answering: No broker answers")
    writer.delete(TOPIC)
    code, said = tally("reland", LEDGER)
    assert code == 1
    assert "does not hold everything up to seq" in said
    writer.create(TOPIC)
    writer.write_events(events)
    code, said = tally("reland", LEDGER)
    assert code == 0, said
    assert f"{LEDGER} stands at seq {len(events)}" in said
    assert f"{LEDGER}\t" not in tally("quarantine")[1]
    assert tally("retype", LEDGER) == (
        0,
        f"{len(events)} events of {LEDGER} are typed anew. The next build takes them up.\n",
    )
    code, said = tally("archive")
    assert code == 1  # the ledger does not answer, so nothing is proven
    assert "Error:" in said
    writer.delete(TOPIC)
