"""The judge: what was planted, what was found, and what was found that nobody planted.

For the simulated ledger the answer key decides. For AMLGentex its labels decide, which no rule has
seen: an alert is true where its subject takes part in labelled laundering; a labelled fan-in whose
gathering account has no fan-in alert is missed. Its breaks are what the file contradicts itself in.
"""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from ledger_service.stack import probes, servers, services
from ledger_service.stack.demo import published
from ledger_service.stack.home import Home


class RuleScore(msgspec.Struct):
    """One rule on one ledger."""

    ledger: str
    rule: str
    planted: int = 0
    found: int = 0
    """Planted cases that an alert names."""
    true: int = 0
    false: int = 0

    @property
    def missed(self) -> int:
        """Planted cases that no alert names."""
        return self.planted - self.found


class BreakScore(msgspec.Struct):
    """The breaks of one ledger."""

    ledger: str
    planted: int
    found: int
    other: int
    """Breaks that nobody planted."""


class Score(msgspec.Struct):
    """Everything the demo is judged by."""

    rules: list[RuleScore]
    breaks: list[BreakScore]
    loads: dict[str, dict[str, Any]]
    """Manifests of loads, by ledger."""

    @property
    def all_found(self) -> bool:
        """Whether everything planted was found, no break is one too many, and no row was lost."""
        planted = all(rule.missed == 0 for rule in self.rules if rule.ledger == "simulated")
        gathering = [
            rule for rule in self.rules if rule.ledger == "amlgentex" and rule.rule == "fan_in"
        ]
        breaks = all(one.found == one.planted and one.other == 0 for one in self.breaks)
        rows = all(
            load["posted"] + sum(load["quarantined"].values()) == load["rows"]
            for load in self.loads.values()
        )
        return planted and breaks and rows and all(rule.true > 0 for rule in gathering)


def alert_count(home: Home) -> int:
    """Alerts that the monitor says it keeps."""
    figures: dict[str, Any] = (
        probes.figures(servers.readiness_url(home, services.TABLE["monitor"])) or {}
    )
    return sum(figures.get("alerts", {}).values())


def judge(home: Home, shared: Path, ledgers: list[str]) -> Score:
    """Compare the published marts with what was planted."""
    restricted, general = published.marts(home, "restricted"), published.marts(home, "general")
    candidates = published.rows(restricted, "select * from alert_candidates")
    breaks = published.rows(general, "select * from reconciliation_breaks where kind <> 'timing'")
    score = Score([], [], {})
    for ledger in ledgers:
        mine = [one for one in candidates if one["ledger"] == ledger]
        broken = [one for one in breaks if one["ledger"] == ledger]
        if ledger == "simulated":
            key = json.loads((home / "simulations" / "simulated.json").read_text())
            score.rules += _planted_rules(ledger, key["planted"], mine)
            score.breaks.append(_planted_breaks(ledger, key["breaks"], broken))
        else:
            score.rules += _labelled_rules(ledger, shared, mine)
            score.breaks.append(_contradictions(ledger, shared, broken))
            score.loads[ledger] = _manifest(home, ledger)
    return score


def _manifest(home: Home, ledger: str) -> dict[str, Any]:
    manifests = [
        json.loads(path.read_text())
        for path in (home / "loads").glob("*.json")
        if "progress" not in path.name
    ]
    return next(one for one in manifests if one.get("ledger") == ledger)


def _planted_rules(
    ledger: str, planted: list[dict[str, Any]], candidates: list[dict[str, Any]]
) -> list[RuleScore]:
    scores: dict[str, RuleScore] = {}
    named: set[str] = set()
    for case in planted:
        score = scores.setdefault(case["rule"], RuleScore(ledger, case["rule"]))
        score.planted += 1
        hits = [one["candidate_id"] for one in candidates if _names(one, case)]
        score.found += bool(hits)
        named.update(hits)
    for one in candidates:
        score = scores.setdefault(one["rule"], RuleScore(ledger, one["rule"]))
        if one["candidate_id"] in named:
            score.true += 1
        else:
            score.false += 1
    return [scores[rule] for rule in sorted(scores)]


def _names(candidate: dict[str, Any], case: dict[str, Any]) -> bool:
    """Whether an alert is about a planted case: its rule, its people or accounts, its days."""
    if candidate["rule"] != case["rule"] or candidate["subject"] not in {
        *case["parties"],
        *case["accounts"],
    }:
        return False
    day = dt.timedelta(days=1)
    first, last = _day(case["first_at"]), _day(case["last_at"])
    return _day(candidate["window_start"]) <= last + day and first - day <= _day(
        candidate["window_end"]
    )


def _day(moment: Any) -> dt.date:
    return dt.date.fromisoformat(str(moment)[:10])


def _planted_breaks(
    ledger: str, planted: list[dict[str, Any]], breaks: list[dict[str, Any]]
) -> BreakScore:
    wanted = {(one["kind"], one["reference"]) for one in planted}
    have = {(one["kind"], one["reference"]) for one in breaks}
    return BreakScore(
        ledger,
        len(wanted),
        len(wanted & have),
        len([1 for one in breaks if (one["kind"], one["reference"]) not in wanted]),
    )


def _labelled_rules(ledger: str, shared: Path, candidates: list[dict[str, Any]]) -> list[RuleScore]:
    labels = duckdb.connect()
    laundering = _ids(
        labels, f"select account_id from read_csv('{shared / 'accounts.csv'}') where is_sar"
    )
    gathering = _ids(
        labels,
        f"select distinct accountid from read_csv('{shared / 'alert_models.csv'}') "
        "where type = 'fan_in' and ismain",
    )
    scores: dict[str, RuleScore] = {"fan_in": RuleScore(ledger, "fan_in", planted=len(gathering))}
    for one in candidates:
        score = scores.setdefault(one["rule"], RuleScore(ledger, one["rule"]))
        if one["subject"].split(":")[1] in laundering:
            score.true += 1
        else:
            score.false += 1
    named = {one["subject"].split(":")[1] for one in candidates if one["rule"] == "fan_in"}
    scores["fan_in"].found = len(named & gathering)
    return [scores[rule] for rule in sorted(scores)]


def _ids(labels: duckdb.DuckDBPyConnection, sql: str) -> set[str]:
    return {str(row[0]) for row in labels.execute(sql).fetchall()}


_CONTRADICTIONS = """
with movement as (
  select nameOrig as account, step, -cast(amount as decimal(30, 12)) as amount,
         newbalanceOrig as stated, file_row_number as row_no,
         type <> 'INITALBALANCE' as states from log where nameOrig >= 0
  union all
  select nameDest, step, cast(amount as decimal(30, 12)), newbalanceDest, file_row_number, type <> 'INITALBALANCE'
    from log where nameDest >= 0
),
day as (
  select account, step, sum(amount) as amount, count(*) as entries,
         arg_max(stated, row_no) filter (where states) as stated
    from movement group by account, step
),
running as (
  select account, step, stated, sum(amount) over past as balance, sum(entries) over past as entries
    from day window past as (partition by account order by step)
)
select account, arg_max(stated - balance, step) as difference, arg_max(entries, step) as entries
  from running where stated is not null group by account
having abs(difference) > 0.005 * entries
"""


def _contradictions(ledger: str, shared: Path, breaks: list[dict[str, Any]]) -> BreakScore:
    """Accounts whose last stated balance is not what the file's own rows add up to.

    A break counts as found where its difference is right to within the rounding of its rows.
    """
    log = duckdb.connect()
    log.execute(
        f"create view log as select * from read_parquet('{shared / 'tx_log.parquet'}', file_row_number = true)"
    )
    expected = {
        str(account): (float(difference) * 100, int(entries))
        for account, difference, entries in log.execute(_CONTRADICTIONS).fetchall()
    }
    found = {
        one["account"].split(":")[1]
        for one in breaks
        if one["kind"] == "stated_balance_differs"
        and one["account"].split(":")[1] in expected
        and abs(int(one["difference"]) - expected[one["account"].split(":")[1]][0])
        <= expected[one["account"].split(":")[1]][1] / 2 + 1
    }
    return BreakScore(ledger, len(expected), len(found), len(breaks) - len(found))
