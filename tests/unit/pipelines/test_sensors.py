"""What is told, to whom, how it is signed, and what happens where the receiver is away."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import httpx
import msgspec
import pytest

from ledger_service.contract.environment import MissingSetting
from ledger_service.contract.snapshots import CheckResult, Manifest, Progress, write_atomically
from pipelines.webhook import ATTEMPTS, Message, Webhook, WebhookFailedError

KEY = secrets.token_bytes(32)
SECRETS_OF_PERSONS = "Jane Roe 078-05-1120"


class Receiver:
    """A real HTTP server that verifies as Standard Webhooks says, and answers as it is told."""

    def __init__(self) -> None:
        self.address = ""
        self.statuses: list[int] = []
        """What the next requests get; 200 from then on."""
        self.taken: list[dict] = []
        self.ids: list[str] = []
        """Of every request, taken or not."""

    def take(self, headers: dict[str, str], body: bytes) -> int:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        ours = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        if headers["webhook-signature"] != f"v1,{ours}":
            return 401
        self.ids.append(headers["webhook-id"])
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            self.taken.append(json.loads(body))
        return status


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(one.take({k.lower(): v for k, v in self.headers.items()}, body))
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        one.address = f"http://127.0.0.1:{server.server_address[1]}/hook"
        yield one
        server.shutdown()


@pytest.fixture
def told(home, monkeypatch, receiver) -> Receiver:
    """The receiver, named by the settings."""
    monkeypatch.setenv("TALLYSTICK_WEBHOOK_URL", receiver.address)
    monkeypatch.setenv("TALLYSTICK_WEBHOOK_SECRET", base64.b64encode(KEY).decode())
    monkeypatch.setenv("TALLYSTICK_CONSOLE_URL", "https://console.example/")
    return receiver


def webhook(receiver: Receiver, key: bytes = KEY) -> Webhook:
    return Webhook(receiver.address, key, sleep=lambda _seconds: None)


def test_a_message_is_signed_and_sent_again_under_the_same_id(receiver):
    receiver.statuses = [503, 429]
    webhook(receiver).send("m1", Message("lag.raised", "books", {"seconds_behind": 130}))
    assert receiver.ids == ["m1"] * 3
    assert receiver.taken == [
        {"type": "lag.raised", "subject": "books", "figures": {"seconds_behind": 130}, "link": ""}
    ]


def test_waits_grow_and_end(receiver):
    receiver.statuses = [500] * 10
    waits: list[float] = []
    with pytest.raises(WebhookFailedError, match=r"lag\.raised of books: status 500"):
        Webhook(receiver.address, KEY, sleep=waits.append).send("m", Message("lag.raised", "books"))
    assert len(receiver.ids) == ATTEMPTS
    assert waits == [0.5, 1.0, 2.0]


def test_a_refusal_and_a_wrong_key_are_not_tried_again(receiver):
    receiver.statuses = [410]
    with pytest.raises(WebhookFailedError, match="status 410"):
        webhook(receiver).send("m", Message("lag.raised", "books"))
    assert receiver.ids == ["m"]
    with pytest.raises(WebhookFailedError, match=r"401\. Check the address and TALLYSTICK_WEBHOOK"):
        webhook(receiver, b"another").send("m", Message("lag.raised", "books"))
    assert receiver.ids == ["m"]


def test_a_receiver_that_is_away_fails_by_name(receiver, free_port):
    receiver.address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(WebhookFailedError, match="ConnectError"):
        webhook(receiver).send("m", Message("lag.raised", "books"))


def evaluate(sensor, instance, cursor=None):
    import dagster as dg

    context = dg.build_sensor_context(instance=instance, cursor=cursor)
    sensor.evaluate_tick(context)
    return context.cursor


@pytest.fixture(scope="module")
def instance():
    import dagster as dg

    with dg.DagsterInstance.ephemeral() as one:
        yield one


def publish(home, *, blocked=(), quarantined=0, checks=(), published=None) -> None:
    """What a publication leaves behind, as far as sensors read it."""
    folder = home / "snapshots"
    progress = Progress(
        landed={"books": 9, "parties": 4}, published=published or {}, quarantined=quarantined,
        updated_at="", blocked_by=list(blocked),
    )  # fmt: skip
    manifest = Manifest("general", 1, "", {}, {}, list(checks), "")
    write_atomically(folder / "progress.json", msgspec.json.encode(progress))
    write_atomically(folder / "general/manifests/00000001.json", msgspec.json.encode(manifest))
    write_atomically(folder / "general/CURRENT", b"00000001.json")


def warning(name: str) -> CheckResult:
    return CheckResult(name, passed=False, blocking=False, detail=SECRETS_OF_PERSONS)


def test_failed_checks_are_told_once_by_name_and_again_when_they_pass(home, told, instance):
    from pipelines.sensors import watch_checks

    assert evaluate(watch_checks, instance) == "[0, []]"
    publish(home, blocked=["two_roads_balances"], checks=[warning("volume"), warning("freshness")])
    cursor = evaluate(watch_checks, instance, "[0, []]")
    cursor = evaluate(watch_checks, instance, cursor)
    assert [(m["type"], m["subject"]) for m in told.taken] == [
        ("check.raised", "two_roads_balances"), ("check.raised", "volume"),
    ]  # fmt: skip
    assert told.taken[0]["link"] == "https://console.example/dagster/"
    publish(home, checks=[warning("volume")])
    cursor = evaluate(watch_checks, instance, cursor)
    publish(home, blocked=["two_roads_balances"])
    evaluate(watch_checks, instance, cursor)
    assert [(m["type"], m["subject"]) for m in told.taken[2:]] == [
        ("check.cleared", "two_roads_balances"), ("check.raised", "two_roads_balances"),
        ("check.cleared", "volume"),
    ]  # fmt: skip
    assert len(set(told.ids)) == len(told.ids) == 5
    assert SECRETS_OF_PERSONS not in json.dumps(told.taken)


def test_what_could_not_be_told_is_told_by_the_next_tick(home, told, instance, monkeypatch):
    from pipelines import webhook as module
    from pipelines.sensors import watch_quarantine

    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.0)
    publish(home, quarantined=3)
    told.statuses = [503] * ATTEMPTS
    with pytest.raises(WebhookFailedError, match="status 503"):
        evaluate(watch_quarantine, instance, "[4, []]")
    assert told.taken == []
    assert evaluate(watch_quarantine, instance, "[4, []]") == '[5, ["quarantine"]]'
    assert told.taken == [
        {"type": "quarantine.raised", "subject": "quarantine", "figures": {"events": 3},
         "link": "https://console.example/dagster/"}
    ]  # fmt: skip
    assert len(set(told.ids)) == 1


class Api:
    """A ledger that has event 9 since some seconds, and nothing behind it."""

    age = 0
    answers = True

    def ledgers(self) -> list[str]:
        return ["books"]

    def recorded_at(self, ledger: str, seq: int):
        import datetime as dt

        assert ledger in self.ledgers()
        if not self.answers:
            raise httpx.ConnectError("no")
        since = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=self.age)
        return since if seq <= 9 else None

    def close(self) -> None:
        pass


def test_a_ledger_whose_facts_are_not_in_the_marts_is_told(home, told, instance, monkeypatch):
    from pipelines import sensors

    monkeypatch.setattr(sensors, "LedgerApi", SimpleNamespace(from_settings=Api))
    cursor = evaluate(sensors.watch_lag, instance)
    for age, published, answers in (
        (100, {}, True), (130, {}, True), (500, {"books": 8}, True), (500, {"books": 9}, True),
        (0, {"books": 9}, False),
    ):  # fmt: skip
        Api.age, Api.answers = age, answers
        publish(home, published=published)
        cursor = evaluate(sensors.watch_lag, instance, cursor)
    assert [(m["type"], m["subject"]) for m in told.taken] == [
        ("lag.raised", "books"), ("lag.cleared", "books"), ("lag.raised", "ledger API"),
    ]  # fmt: skip
    assert told.taken[0]["figures"]["seconds_behind"] in range(125, 160)


def test_a_ledger_of_which_nothing_ever_landed_is_behind_since_its_first_event():
    from pipelines.checks.freshness import check_freshness

    class WithUnread(Api):
        age = 300
        answers = True

        def ledgers(self) -> list[str]:
            return ["books", "unread"]

    late = check_freshness(WithUnread(), {"books": 9, "parties": 1})
    assert late.figures["seconds that books is behind"] == 0
    assert late.check.detail.startswith("unread: the marts stand at seq 0")


def test_a_failed_run_is_told_without_the_words_of_its_error(told, instance):
    import dagster as dg

    from pipelines.sensors import tell_failed_runs

    @dg.op
    def breaks() -> None:
        raise ValueError(SECRETS_OF_PERSONS)

    @dg.job(name="build")
    def job() -> None:
        breaks()

    result = job.execute_in_process(instance=instance, raise_on_error=False)
    failure = result.get_run_failure_event()
    context = dg.build_run_status_sensor_context(
        "tell_failed_runs", failure, instance, result.dagster_run
    ).for_run_failure()
    tell_failed_runs(context)
    assert told.ids == [f"run-{result.run_id}"]
    assert told.taken == [
        {"type": "run.failed", "subject": "build", "figures": {},
         "link": f"https://console.example/dagster/runs/{result.run_id}"}
    ]  # fmt: skip


def test_without_a_receiver_nothing_is_told_and_nothing_fails(home, instance, monkeypatch):
    from pipelines.sensors import watch_checks

    publish(home, blocked=["two_roads_balances"])
    assert evaluate(watch_checks, instance, "[0, []]") == "[0, []]"
    monkeypatch.setenv("TALLYSTICK_WEBHOOK_URL", "http://127.0.0.1:9")
    with pytest.raises(MissingSetting, match="TALLYSTICK_WEBHOOK_SECRET"):
        evaluate(watch_checks, instance, "[0, []]")
