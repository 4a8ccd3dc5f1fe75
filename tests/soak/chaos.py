"""The kill loop of the stream: relay, broker and pipeline die under load, at every named place.

`python -m tests.soak.chaos --kills 100 --seed 7`. In the end, and while the pipeline is dead in
between: Kafka is the journal byte for byte, the landing has neither gap nor repeat, the marts are the
ledger at their `seq`, and a reader has found every published snapshot whole. The same seed makes the
same plan of kills.
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from ledger_service.contract.failpoints import POINTS
from ledger_service.stack.home import Home
from pipelines.flow import Flow
from pipelines.ledger_api import LedgerApi
from tests import servers
from tests.soak import stream_sabotage
from tests.soak.arguments import give_up_after, parser_of
from tests.soak.cluster import Node, clients
from tests.soak.side_facts import SideFacts
from tests.soak.snapshot_watcher import SnapshotWatcher
from tests.soak.soak import KillLoop, Plan, owner
from tests.soak.stream_house import Stream, stream

SERVICES = ("pipeline", "relay")
IN_DBT = "in the midst of dbt"
MIDST = "dbt.before_run=pause@{times},dbt.after_run=kill@{times}"
"""A life that says when dbt begins; should nobody kill it in time, it dies when dbt is done."""
IN_DBT_S = 4.0
SHORTEST_PAUSE_S = 3.0
"""Between two kills from outside, about."""
JUDGE_EVERY = 10
"""Deaths of the pipeline."""
LOAD_PAUSE_S = 1.0
"""At most between two requests of a worker: some dozens of events a second."""
LONGEST_S, LONGEST_S_A_KILL = 600, 60


def plan_of(kills: int, seed: int) -> Plan:
    """Two thirds at named places; of the others a third hit dbt at work.

    The pipeline lives for one place after the other; the relay's take their turns with the broker.
    """
    plan = Plan.make(
        kills, seed, SERVICES, ["broker", "broker", "relay", "pipeline", IN_DBT, IN_DBT]
    )
    chance = random.Random(f"{seed}/order")
    midst = [kill for kill in plan.others if kill == IN_DBT]
    lives = plan.points["pipeline"] + [MIDST.format(times=chance.randint(1, 3)) for _ in midst]
    others = plan.points["relay"] + [kill for kill in plan.others if kill != IN_DBT]
    chance.shuffle(lives)
    chance.shuffle(others)
    return Plan({"pipeline": lives}, others)


def plan_against(broken: str) -> Plan:
    """The kills that show a sabotage: each of its places twice."""
    one = stream_sabotage.ALL[broken]
    kills = [f"{point}=kill@{times}" for times in (1, 3) for point in one.points]
    if one.service == "pipeline":
        return Plan({"pipeline": kills}, [])
    return Plan({}, kills)


class Verdict(msgspec.Struct, kw_only=True):
    """What a run came to."""

    seed: int
    seconds: float
    events: int
    """In the ledger at the end."""
    starts: int
    looks: int
    """How often the reader looked at what is published."""
    snapshots_read: int
    hits: dict[str, int]
    """Kills by place, and those from outside by their target."""
    violations: list[str]

    @property
    def missed(self) -> list[str]:
        """Places of the stream at which nothing was killed."""
        return [p for p in POINTS if owner(p) in SERVICES and not self.hits.get(p)]


class StreamLoop(KillLoop):
    """Kills the stream's services; judges the landing while the pipeline lies dead."""

    stuck_s = 240.0

    def __init__(self, one: Stream, plan: Plan, seed: int, watcher: SnapshotWatcher) -> None:
        super().__init__(one.running, plan, seed)
        self.violations: list[str] = []
        self._watcher = watcher
        self._kafka = one.kafka
        self._judge = one.judge
        self._deaths = 0
        self._begun = time.monotonic()
        self._kill_at: float | None = None
        """When the one that is in dbt dies."""

    def _bring_back(self, node: Node) -> None:
        if node.process is not None and node.process.returncode != -signal.SIGKILL:
            code = node.process.returncode
            self._wrong(f"{node.name} ended by itself, {code}: {node.said().strip()[-400:]}")
        if node.name == "pipeline":
            self._deaths += 1
            if self._deaths % JUDGE_EVERY == 0:
                for problem in self._judge.at_rest():
                    self._wrong(f"after {self._deaths} deaths: {problem}")
        super()._bring_back(node)
        self._kill_at = None

    def _pause_s(self) -> float:
        """So that what comes from outside comes in all of the lives, however fast the machine is."""
        life = (time.monotonic() - self._begun) / max(1, self._deaths)
        left = len(self._plan.points.get("pipeline", ())) / max(1, len(self._plan.others))
        return self._chance.uniform(0.3, 1.7) * max(SHORTEST_PAUSE_S, life * left)

    def _place_of_death(self, node: Node) -> str:
        if "=pause" not in node.failpoint:
            return super()._place_of_death(node)
        said = node.said()
        was_late = "failpoint dbt.after_run kill\n" in said
        return IN_DBT if "failpoint dbt.before_run pause\n" in said and not was_late else ""

    def _look(self) -> None:
        """Whoever said that dbt begins dies some time after. What is wrong ends the loop."""
        assert not self.violations + self._watcher.violations, "stopped there"
        for node in self._running.nodes:
            if "=pause" in node.failpoint and node.is_running:
                if self._kill_at is None and "failpoint dbt.before_run pause\n" in node.said():
                    self._kill_at = time.monotonic() + self._chance.uniform(0.25, IN_DBT_S)
                elif self._kill_at is not None and time.monotonic() > self._kill_at:
                    node.kill()

    def _strike(self, target: str) -> None:
        if target in POINTS or "=" in target:
            (node,) = self._running.named(owner(target.partition("=")[0]))
            if node.failpoint:
                self._plan.others.append(target)  # one place after the other
                return
            node.kill()
            node.failpoint = target
            return
        self.hits[f"outside: {target}"] += 1
        self._progress = time.monotonic()
        if target == "broker":
            self._kafka.kill()
            time.sleep(self._chance.uniform(0, 2))
            self._kafka.start()
        else:
            self._running.named(target)[0].kill()

    def _wrong(self, what: str) -> None:
        self.violations.append(what)
        print(f"  {what}", flush=True)


def soak(one: Stream, plan: Plan, seed: int, *, rebuild: bool = True) -> Verdict:
    """Carry a plan out under load, wait until all has arrived, and judge.

    `rebuild`: whether the marts are also compared with those of a full build, which takes a while.
    """
    running, begun = one.running, time.monotonic()
    watcher = SnapshotWatcher(one.places.snapshots)
    loop = StreamLoop(one, plan, seed, watcher)
    violations = loop.violations
    with watcher:
        try:
            with (
                clients(running, str(seed), 1, pause_s=LOAD_PAUSE_S),
                SideFacts(running, seed) as side,
            ):
                loop.run()
            violations += side.violations
            one.wait_until_published()
        except AssertionError as standstill:
            violations.append(f"the stream came to a stand: {standstill}")
        one.stop_pipeline()
    violations += [*watcher.violations, *one.blocked()]
    running.note_reversals()
    if not violations:
        violations += one.judge.in_the_end(one.kafka.kafka.login("verifier"))
    if rebuild and not violations:
        api = LedgerApi(running.urls[0], running.key)
        flow = Flow(one.places, one.kafka.kafka.login("pipelines"), api)
        violations += one.judge.compare_rebuilt(flow)
    return Verdict(
        seed=seed,
        seconds=time.monotonic() - begun,
        events=running.head(),
        starts=loop.restarts,
        looks=watcher.looks,
        snapshots_read=watcher.versions,
        hits=dict(loop.hits),
        violations=violations,
    )


def whole_run(kills: int, seed: int, folder: Path, broken: str = "") -> Verdict:
    """One run on servers of its own."""
    with servers.postgres(folder, durable=True) as postgres:
        template = servers.migrated_template(postgres)
        database = servers.LedgerDatabase(postgres.create_database("stream", template=template))
        plan = plan_against(broken) if broken else plan_of(kills, seed)
        with stream(database, folder, broken=broken, expectations=not broken) as one:
            return soak(one, plan, seed)


def report(verdict: Verdict) -> str:
    """Figures in words."""
    places = [*(point for point in POINTS if owner(point) in SERVICES), *verdict.hits]
    hits = "\n".join(f"  {verdict.hits.get(name, 0):4d}  {name}" for name in dict.fromkeys(places))
    return (
        f"seed {verdict.seed}: {sum(verdict.hits.values())} kills in {verdict.seconds:.0f} s, "
        f"{verdict.starts} starts, {verdict.events} events\n{hits}\n"
        f"a reader looked {verdict.looks} times and read {verdict.snapshots_read} snapshots\n"
        f"never killed at: {', '.join(verdict.missed) or 'no place'}\n"
        f"{len(verdict.violations)} violations"
        + "".join(f"\n  {text}" for text in verdict.violations[:10])
    )


def controls(seed: int) -> int:
    """Break each promise on purpose; 1 where it was not noticed."""
    unnoticed = 0
    for name in stream_sabotage.ALL:
        with tempfile.TemporaryDirectory(prefix="tallystick-chaos-") as folder:
            found = whole_run(0, seed, Path(folder), name).violations
        unnoticed += not found
        said = f"found, e.g. {found[0][:200]}" if found else "NOT FOUND"
        print(f"{name}: {said}", flush=True)
    return 1 if unnoticed else 0


def main(arguments: list[str]) -> int:
    """Run once; 1 where a promise was broken or a place was never hit."""
    chosen = parser_of(__doc__, 100, stream_sabotage.ALL).parse_args(arguments)
    print(f"seed {chosen.seed}", flush=True)
    runs = len(stream_sabotage.ALL) if chosen.controls else 1
    give_up_after(runs * LONGEST_S + chosen.kills * LONGEST_S_A_KILL)
    if chosen.controls:
        return controls(chosen.seed)
    with tempfile.TemporaryDirectory(prefix="tallystick-chaos-") as folder:
        verdict = whole_run(chosen.kills, chosen.seed, Path(folder), chosen.sabotage)
    print(report(verdict))
    result = Home.current().create() / "bench" / "chaos-pipeline.json"
    result.write_bytes(msgspec.json.format(msgspec.json.encode(verdict), indent=2))
    print(result)
    return 1 if verdict.violations or verdict.missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
