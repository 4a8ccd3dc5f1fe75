"""A topic's writer and a ledger that answers from its own events: the other road, seen from here."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import duckdb
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from ledger_service.contract import topics
from ledger_service.contract.brokers import Brokers
from ledger_service.contract.events import (
    AccountOpened,
    Entry,
    HoldPlaced,
    HoldReleased,
    JournalEvent,
    StreamEvent,
    TransactionPosted,
    encode,
    event_type,
)
from pipelines.ingestion import raw
from pipelines.ingestion.manifest import DataFile, LandedSource, Landing
from pipelines.ingestion.tables import TABLES
from pipelines.publication.parts import content_of
from pipelines.warehouse import database


def write_raw(
    landing: Landing, name: str, source: LandedSource, records: Iterable[tuple[int, str, bytes]]
) -> DataFile:
    """Write records (seq, type, bytes) as the raw landing does, without a topic."""
    batch = raw._Batch(source.topic, source.seq + 1, may_skip=False)
    for seq, kind, content in records:
        batch.seqs.append(seq)
        batch.types.append(kind.encode())
        batch.times.append(b"")
        batch.contents.append(content)
    return raw._write(landing, name, source, batch)


def typed_contents(landing: Landing) -> dict[str, tuple[int, str]]:
    """Rows and content hash of each typed table, whatever files they lie in."""
    with duckdb.connect(":memory:") as connection:
        database.make_landing_views(connection, landing)
        return {table.name: content_of(connection, f"landing.{table.name}") for table in TABLES}


class TopicWriter:
    """Writes records as the relay does."""

    def __init__(self, brokers: Brokers) -> None:
        self._admin = AdminClient(brokers.client())
        self._producer = Producer(brokers.client())

    def create(self, topic: str) -> None:
        self._admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)

    def delete(self, topic: str) -> None:
        """Returns once the broker names the topic no more."""
        self._admin.delete_topics([topic])[topic].result(20)
        while topic in self._admin.list_topics(timeout=20).topics:
            pass

    def write(self, topic: str, seq: int, kind: str, content: bytes, source: str) -> None:
        headers = topics.headers(source=source, seq=seq, event_type=kind, time="", subject=source)
        self._producer.produce(topic, value=content, partition=0, headers=headers)

    def write_events(self, events: Sequence[JournalEvent | StreamEvent]) -> None:
        for event in events:
            name = getattr(event, "ledger", "") if not hasattr(event, "stream") else event.stream
            journal = not hasattr(event, "stream")
            topic = topics.journal_topic(name) if journal else topics.stream_topic(name)
            self.write(topic, event.seq, event_type(event), encode(event), name)
        self.flush()

    def flush(self) -> None:
        assert self._producer.flush(20) == 0


class LedgerOracle:
    """Answers as the ledger's API would, by adding up events in the plainest way."""

    def __init__(self) -> None:
        self.events: dict[str, list[JournalEvent]] = defaultdict(list)
        self.address = ""
        self.answers = True

    def balances(self, ledger: str, at_seq: int) -> list[dict]:
        lines: dict[str, dict] = {}
        for event in self.events[ledger]:
            if event.seq > at_seq:
                break
            if isinstance(event, AccountOpened):
                lines[event.account] = {
                    "account": event.account, "currency": event.currency, "debits": 0, "credits": 0,
                    "line": (event.gl_code, event.account_class, event.custodial, event.currency),
                }  # fmt: skip
            elif isinstance(event, TransactionPosted):
                for entry in event.entries:
                    lines[entry.account][f"{entry.side}s"] += int(entry.amount)
        return list(lines.values())

    def trial_balance(self, ledger: str, at_seq: int) -> list[dict]:
        sums: dict[tuple, list[int]] = defaultdict(lambda: [0, 0])
        for line in self.balances(ledger, at_seq):
            sums[line["line"]][0] += line["debits"]
            sums[line["line"]][1] += line["credits"]
        names = ("gl_code", "account_class", "custodial", "currency")
        return [
            {**dict(zip(names, key, strict=True)), "debits": str(one), "credits": str(other)}
            for key, (one, other) in sums.items()
        ]

    def holds(self, ledger: str) -> list[dict]:
        """All of them as they stand now, newest first."""
        found: dict[int, dict] = {}
        for event in self.events[ledger]:
            if isinstance(event, HoldPlaced):
                found[event.seq] = {
                    "seq": event.seq,
                    "state": "open",
                    "left": _debits(event.entries),
                }
            elif isinstance(event, HoldReleased):
                found[event.hold] |= {"state": event.cause, "left": 0}
            elif isinstance(event, TransactionPosted) and event.captures:
                hold = found[event.captures]
                hold["left"] -= _debits(event.entries)
                if event.ends_hold:
                    hold |= {"state": "captured", "left": 0}
            named = getattr(event, "hold", None) or getattr(event, "captures", None) or event.seq
            if named in found:
                found[named]["changed_by"] = event.seq
        return sorted(found.values(), key=lambda hold: -hold["seq"])

    def page_of_holds(self, ledger: str, query: dict) -> dict:
        """Two at a time, so that there are pages."""
        before, state = int(query.get("before", [2**63])[0]), query.get("state")
        fitting = [
            {**hold, "left": str(hold["left"])}
            for hold in self.holds(ledger)
            if hold["seq"] < before and (not state or hold["state"] == state[0])
        ]
        more = fitting[1]["seq"] if len(fitting) > 2 else None
        return {"holds": fitting[:2], "next_before": more}

    def answer(self, path: str, query: dict) -> str | None:
        ledger, what, *seq = path.split("/")[3:]
        if what == "progress":
            return json.dumps({"posted_seq": len(self.events[ledger])})
        if what == "events":
            found = [event for event in self.events[ledger] if event.seq == int(seq[0])]
            return encode(found[0]).decode() if found else None
        if what == "holds":
            return json.dumps(self.page_of_holds(ledger, query))
        if what == "checkpoints":
            return f"tallystick.local/{ledger}\n{len(self.events[ledger])}\ncm9vdA==\n\n— sig\n"
        at_seq = int(query["at_seq"][0])
        if what == "balances":
            rows = [
                {name: str(line[name]) for name in ("account", "currency", "debits", "credits")}
                for line in self.balances(ledger, at_seq)
            ]
            return "".join(json.dumps(row) + "\n" for row in rows)
        return json.dumps({"lines": self.trial_balance(ledger, at_seq)})

    @contextlib.contextmanager
    def serving(self) -> Iterator[LedgerOracle]:
        oracle = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                if url.path == "/v1/ledgers":
                    answer = json.dumps({"ledgers": [{"ledger": name} for name in oracle.events]})
                else:
                    answer = oracle.answer(url.path, parse_qs(url.query))
                self.send_response((404 if answer is None else 200) if oracle.answers else 503)
                body = (answer or "").encode()
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()


def _debits(entries: Sequence[Entry]) -> int:
    return sum(int(entry.amount) for entry in entries if entry.side == "debit")
