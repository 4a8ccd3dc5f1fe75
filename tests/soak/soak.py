"""The kill loop: services die at every named place, and clients' own histories judge the ledger.

`python -m tests.soak.soak --kills 200 --seed 7`. A failed run prints its seed; the same seed makes
the same plan of kills and the same clients.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ledger_service.contract.brokers import Brokers
from ledger_service.contract.failpoints import POINTS
from ledger_service.engine.verify import verify
from tests import servers
from tests.asking import body_of, place_of
from tests.reference_ledger import AccountState
from tests.soak import sabotage
from tests.soak.arguments import give_up_after, parser_of
from tests.soak.client import FLOORS, LEDGER
from tests.soak.cluster import LEASE_SECONDS, Cluster, Node, clients, cluster
from tests.soak.durable_postgres import DurablePostgres
from tests.soak.history import read
from tests.soak.judge import Judge, Judgement

STUCK_S = 45
IDLE_S = 5
"""After so long without a death the unarmed make way for the armed."""
LONGEST_S, LONGEST_S_A_KILL = 150, 8
CONTROL_KILLS = 40
RESOLVED_MAX = 1000
REPLAYED = 25
"""How many transactions are sent again at the end, among the doubtful and among all."""
_PASSES = {
    "takeover": 1, "checkpoint": 2, "lease": 12, "relay": 15, "raw": 4, "typed": 10, "replace": 8,
    "quarantine": 1, "compaction": 2, "archive": 2, "sweep": 2, "dbt": 3, "checks": 3, "part": 25,
    "snapshot": 4, "prune": 4,
}  # fmt: skip
"""Up to how many passes a process lives, by the place's first word."""


@dataclasses.dataclass
class Plan:
    """Which kills, in which order: made from the seed and nothing else."""

    points: dict[str, list[str]]
    """Armed failpoints for each service, one a life."""
    others: list[str]
    """Kills from outside: a service, or PostgreSQL."""

    @classmethod
    def make(cls, kills: int, seed: int, services: tuple[str, ...], others: list[str]) -> Plan:
        """Two thirds at named places, each of them as often as the others."""
        chance = random.Random(seed)
        names = [point for point in POINTS if owner(point) in services]
        rounds = max(1, round(kills * 2 / 3 / len(names)))
        chosen = [point for _ in range(rounds) for point in chance.sample(names, len(names))]
        chosen = chosen[: max(1, kills * 2 // 3)] if kills < len(names) else chosen
        points: dict[str, list[str]] = {service: [] for service in services}
        for point in chosen:
            passes = _PASSES.get(point.partition(".")[0], 25)
            points[owner(point)].append(f"{point}=kill@{chance.randint(1, passes)}")
        left = max(0, kills - len(chosen))
        return cls(points, [chance.choice(others) for _ in range(left)])

    @property
    def is_done(self) -> bool:
        return not self.others and not any(self.points.values())


def owner(point: str) -> str:
    """The service that passes a place."""
    return POINTS[point].partition(":")[0].lower()


class KillLoop:
    """Carries a plan out on a cluster, bringing back what has died."""

    stuck_s: float = STUCK_S

    def __init__(
        self, running: Cluster, plan: Plan, seed: int, postgres: DurablePostgres | None = None
    ) -> None:
        self.hits: Counter[str] = Counter()
        self.restarts = 0
        self._running = running
        self._plan = plan
        self._chance = random.Random(f"{seed}/loop")
        self._postgres = postgres
        self._progress = time.monotonic()
        self._handed_over = 0.0
        self._due = 0.0

    def run(self) -> None:
        """Until the plan is done. Errors: AssertionError where nothing dies any more."""
        for node in self._running.nodes:
            self._arm(node)
        while not self._plan.is_done or any(node.failpoint for node in self._running.nodes):
            for node in self._running.nodes:
                if not node.is_running:
                    self._bring_back(node)
            if self._plan.others and time.monotonic() > self._due:
                self._strike(self._plan.others.pop(0))
                self._due = time.monotonic() + self._pause_s()
            self._look()
            if time.monotonic() > max(self._progress, self._handed_over) + IDLE_S:
                self._hand_over()
            assert time.monotonic() < self._progress + self.stuck_s, (
                f"nothing has died for {self.stuck_s} s: "
                f"{[(node.name, node.failpoint) for node in self._running.nodes]}"
            )
            time.sleep(0.02)

    def _pause_s(self) -> float:
        """Between two kills from outside."""
        return self._chance.uniform(0.3, 2.0)

    def _look(self) -> None:
        """For what a loop does besides, some fifty times a second."""

    def _hand_over(self) -> None:
        """Kill those that work in peace, so that the armed ones beside them get the work."""
        self._handed_over = time.monotonic()
        armed = {_service(node) for node in self._running.nodes if node.failpoint}
        for node in self._running.nodes:
            if _service(node) in armed and not node.failpoint:
                self.hits[f"outside: {_service(node)}"] += 1
                node.kill()

    def _arm(self, node: Node) -> None:
        """A node that is not armed dies, if there is a place left for it to die at."""
        if self._plan.points.get(_service(node)):
            node.kill()

    def _bring_back(self, node: Node) -> None:
        if place := self._place_of_death(node):
            self.hits[place] += 1
            self._progress = time.monotonic()
            node.failpoint = ""
        # killed from outside, or the database was not there: the place is still to be hit
        waiting = self._plan.points.get(_service(node))
        again = node.failpoint or (waiting.pop(0) if waiting else "")
        node.start(again)
        self.restarts += 1

    def _place_of_death(self, node: Node) -> str:
        """The place that `node` was armed with, if it died there."""
        return node.failpoint.partition("=")[0] if node.died_at_failpoint else ""

    def _strike(self, target: str) -> None:
        self.hits[f"outside: {target}"] += 1
        self._progress = time.monotonic()
        if target == "postgres crash" and self._postgres:
            self._postgres.crash()
        elif target == "postgres kill" and self._postgres:
            self._postgres.kill()
            time.sleep(self._chance.uniform(0, 1))
            self._postgres.start()
        elif target == "frozen writer":
            self._freeze(self._chance.choice(self._running.named("writer")))
        elif target == "all writers":
            for node in self._running.named("writer"):
                node.kill()
        else:
            self._chance.choice(self._running.named(target)).kill()

    def _freeze(self, node: Node) -> None:
        """Stop a process past its lease, and let it go on as if nothing had been."""
        if node.process is not None and node.is_running:
            node.process.send_signal(signal.SIGSTOP)
            time.sleep(LEASE_SECONDS * 1.5)
            node.process.send_signal(signal.SIGCONT)


def _service(node: Node) -> str:
    return node.name.rstrip("0123456789")


def judge(running: Cluster, histories: Path, *, full: bool = True) -> Judgement:
    """What the clients' histories say of the ledger as it stands, and what verification says."""
    judging = Judge(LEDGER, FLOORS)
    for path in sorted(histories.glob("*.history")):
        judging.hear(read(path))
    for path in histories.glob("*.log"):
        judging.result.unsettled.update(path.read_text().splitlines())
    _settle(running, judging)
    journal, accounts = _at_rest(running)
    result = judging.look_at(journal)
    judging.compare_accounts(accounts)
    running.note_reversals()
    for node in running.named("api"):
        for line in node.log.read_text(errors="replace").splitlines():
            if "api.request_failed" in line:
                result.unforeseen[line.partition('"error"')[2][:250]] += 1
    result.violations += [f"a 500 of the API: {error}" for error in result.unforeseen]
    report = verify(running.owner_url, LEDGER, full=full)
    result.violations += [f"tally verify: {finding}" for finding in report.findings]
    return result


def _at_rest(running: Cluster) -> tuple[list[tuple[int, bytes]], dict[str, AccountState]]:
    """Journal and accounts as of one moment: holds go on expiring after the clients have gone."""
    while True:
        journal, accounts = running.journal(), running.accounts()
        if running.head() == len(journal):
            return journal, accounts
        time.sleep(0.2)


def _settle(running: Cluster, judging: Judge) -> None:
    """Look up by its key what never got an outcome; send some again: the answer is the first one."""
    claims = [claim for claim in judging.claims.values() if claim.ask.do != "status"]
    path = f"/v1/ledgers/{LEDGER}"
    with running.http() as http:
        for claim in [c for c in claims if c.seq is None and c.refused is None][:RESOLVED_MAX]:
            key = {"idempotency_key": claim.ask.key}
            answer = http.get(f"{path}/transactions", params=key)
            if answer.status_code == 200:
                claim.found = answer.json()["seq"]
            elif answer.json().get("code") != "unknown_transaction":
                judging.wrong(f"{claim.ask.key} can't be looked up: {answer.text}")
        done = [claim for claim in claims if claim.found or claim.seq]
        doubtful = [claim for claim in done if claim.in_doubt]
        for claim in [*doubtful[:REPLAYED], *done[:: max(1, len(done) // REPLAYED)]]:
            method, place = place_of(claim.ask)
            answer = http.request(method, f"{path}/{place}", json=body_of(claim.ask))
            if answer.status_code != 200 or answer.json()["seq"] != (claim.found or claim.seq):
                judging.wrong(f"{claim.ask.key}, sent again, was answered with {answer.text}")
                return  # the others would each wait as long for the same


@contextlib.contextmanager
def surroundings(
    folder: Path, *, relay: bool
) -> Iterator[tuple[DurablePostgres, servers.Kafka | None]]:
    """A PostgreSQL that keeps what it says it keeps, and Kafka."""
    postgres = DurablePostgres(folder / "postgres")
    postgres.start()
    try:
        with servers.kafka(folder) if relay else contextlib.nullcontext() as kafka:
            yield postgres, kafka
    finally:
        if postgres.process is not None:
            servers.end(postgres.process, signal.SIGINT)


def soak(
    kills: int, seed: int, folder: Path, *, relay: bool = True, broken: str = ""
) -> tuple[Judgement, KillLoop]:
    """One whole run, on servers of its own."""
    with surroundings(folder, relay=relay) as (postgres, kafka):
        ledger_database = postgres.ledger_database()
        services = ("writer", "api", "relay") if relay else ("writer", "api")
        others = [*services, "all writers", "frozen writer", "postgres crash", "postgres kill"]
        if broken:
            others = ["postgres kill"]  # what is not on disk is lost only with it
        plan = Plan.make(kills, seed, services, others)
        with cluster(ledger_database, folder, kafka=kafka, sabotage=broken) as running:
            loop = KillLoop(running, plan, seed, postgres)
            standstill = None
            with clients(running, str(seed)) as histories:
                try:
                    running.wait_for_progress(100)
                    loop.run()
                    for node in running.nodes:
                        node.wait_ready()
                    running.wait_for_progress(100)
                except AssertionError as error:
                    standstill = f"the ledger came to a stand: {error}"
            if standstill:
                return Judgement([standstill]), loop
            result = judge(running, histories)
            if kafka:
                result.violations += compare_topic(running, kafka.login("verifier"))
    return result, loop


def compare_topic(running: Cluster, brokers: Brokers) -> list[str]:
    """P7: the topic is the journal, byte for byte."""
    from ledger_service.contract.topics import journal_topic
    from tests.integration.relay.test_relay import read_topic

    until = time.monotonic() + 60
    while True:
        published = read_topic(brokers, journal_topic(LEDGER))
        journal = running.journal()
        if published == journal:
            return []
        if time.monotonic() > until:
            return [f"the topic holds {len(published)} records, the journal {len(journal)} events"]
        time.sleep(1)


def report(result: Judgement, loop: KillLoop, seed: int, seconds: float) -> str:
    """Figures in words."""
    hits = "\n".join(f"  {count:4d}  {name}" for name, count in sorted(loop.hits.items()))
    violations = "\n".join(f"  {text}" for text in result.violations[:10])
    return (
        f"seed {seed}: {sum(loop.hits.values())} kills in {seconds:.0f} s, "
        f"{loop.restarts} starts\n{hits}\n"
        f"in the ledger: {dict(result.done.most_common())}; acknowledged {result.acknowledged}, "
        f"refused {result.refused}\n"
        f"outcomes lost on the way {result.doubtful}; never acknowledged: found by key "
        f"{result.found}, absent {result.absent}\n"
        f"why lost: {dict(result.unsettled.most_common(8))}\n"
        f"{len(result.violations)} violations\n{violations}"
    )


def controls(seed: int) -> int:
    """Break each promise on purpose; 1 where the soak did not notice."""
    unnoticed = 0
    for name in sabotage.ALL:
        with tempfile.TemporaryDirectory(prefix="tallystick-soak-") as folder:
            result, _ = soak(CONTROL_KILLS, seed, Path(folder), relay=False, broken=name)
        found = f"found, e.g. {result.violations[0][:150]}" if result.violations else "NOT FOUND"
        unnoticed += not result.violations
        print(f"{name}: {len(result.violations)} violations, {found}", flush=True)
    return 1 if unnoticed else 0


def main(arguments: list[str]) -> int:
    """Run once; 1 where a promise was broken or a place was hit too seldom."""
    parser = parser_of(__doc__, 200, sabotage.ALL)
    parser.add_argument("--no-relay", action="store_true", help="without Kafka and the relay")
    chosen = parser.parse_args(arguments)
    print(f"seed {chosen.seed}", flush=True)
    runs = len(sabotage.ALL) if chosen.controls else 1
    give_up_after(runs * (LONGEST_S + chosen.kills * LONGEST_S_A_KILL))
    if chosen.controls:
        return controls(chosen.seed)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tallystick-soak-") as folder:
        result, loop = soak(
            chosen.kills,
            chosen.seed,
            Path(folder),
            relay=not chosen.no_relay,
            broken=chosen.sabotage,
        )
    print(report(result, loop, chosen.seed, time.monotonic() - begun))
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
