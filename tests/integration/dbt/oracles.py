"""Marts and monitoring rules once more, the slow and obvious way: loops over lists, no windows, no
SQL.

Each rule gives a set of findings (rule, subject, evidence), the evidence being the set of
(seq, entry_no, role, amount). Parameters are those of the seed `rule_parameters`, version 1.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ledger_service.contract import events
from ledger_service.domain.period import PeriodEvent, Periods
from tests.integration.dbt.warehouse import Facts

DAY = dt.timedelta(days=1)
Finding = tuple[str, str, frozenset[tuple[int, int, str, int]]]


class Move(NamedTuple):
    """A customer's entry, reversals taken off."""

    moment: dt.datetime
    seq: int
    entry_no: int
    day: dt.date
    business_date: dt.date
    account: str
    person: str
    direction: str
    amount: int
    channel: str
    conductor: str | None
    counterparty: str | None
    own: bool


def moves_of(facts: Facts) -> list[Move]:
    """Customers' movements in the order of time."""
    owners = {row["account"]: row["owner"] or row["account"] for row in facts.rows["accounts"]}
    entries: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in facts.rows["entries"]:
        entries[row["seq"]].append(row)
    transactions = {row["seq"]: row for row in facts.rows["transactions"]}
    taken_back: dict[tuple[int, str, str], int] = defaultdict(int)
    for seq, transaction in transactions.items():
        if transaction.get("reverses_seq"):
            for row in entries[seq]:
                side = "credit" if row["side"] == "debit" else "debit"
                taken_back[transaction["reverses_seq"], row["account"], side] += row["amount"]
    found = []
    for seq, transaction in transactions.items():
        if transaction.get("reverses_seq") or transaction["kind"] == "opening_balance":
            continue
        for row in entries[seq]:
            left = row["amount"] - taken_back[seq, row["account"], row["side"]]
            if not row["account"].startswith("customer:") or left <= 0:
                continue
            others = [
                each["account"]
                for each in entries[seq]
                if each["side"] != row["side"] and each["account"].startswith("customer:")
            ]
            other = others[0] if others else None
            person = owners[row["account"]]
            found.append(
                Move(
                    transaction["effective_at"], seq, row["entry_no"],
                    transaction["effective_date"], transaction["business_date"], row["account"],
                    person, "in" if row["side"] == "credit" else "out", left,
                    transaction["channel"], transaction.get("conductor"),
                    other or transaction.get("counterparty"),
                    other is not None and owners[other] == person,
                )
            )  # fmt: skip
    return sorted(found)


def _grouped(moves: Iterable[Move], key: Callable[[Move], Any]) -> dict[Any, list[Move]]:
    groups: dict[Any, list[Move]] = defaultdict(list)
    for move in moves:
        groups[key(move)].append(move)
    return groups


def _by_person(moves: list[Move]) -> dict[str, list[Move]]:
    persons: dict[str, list[Move]] = defaultdict(list)
    for move in moves:
        if move.channel == "cash":
            for person in {move.person, move.conductor or move.person}:
                persons[person].append(move)
    return persons


def _episodes(moves: Iterable[Move], gap: int) -> list[list[Move]]:
    episodes: list[list[Move]] = []
    for move in sorted(moves, key=lambda each: (each.day, each.seq, each.entry_no)):
        if not episodes or (move.day - episodes[-1][-1].day).days > gap:
            episodes.append([])
        episodes[-1].append(move)
    return episodes


def _finding(rule: str, subject: str, evidence: Iterable[tuple[Move, str]]) -> Finding:
    rows = frozenset((move.seq, move.entry_no, role, move.amount) for move, role in evidence)
    return rule, subject, rows


def ctr_aggregation(facts: Facts) -> set[Finding]:
    """Cash of a person on a business day, in and out apart, strictly above 10,000.00."""
    return {
        _finding("ctr_aggregation", person, [(move, f"cash_{direction}") for move in group])
        for person, cash in _by_person(moves_of(facts)).items()
        for (_, direction), group in _grouped(
            cash, lambda m: (m.business_date, m.direction)
        ).items()
        if sum(move.amount for move in group) > 1_000_000
    }


def structuring(facts: Facts) -> set[Finding]:
    """Three deposits of 3,000.00 to 10,000.00 within ten days, together above 10,000.00."""
    found = set()
    for person, cash in _by_person(moves_of(facts)).items():
        deposits = [m for m in cash if m.direction == "in" and 300_000 <= m.amount <= 1_000_000]
        evidence = set()
        for last in deposits:
            window = [m for m in deposits if last.day - 9 * DAY <= m.day <= last.day]
            if len(window) >= 3 and sum(m.amount for m in window) > 1_000_000:
                evidence |= set(window)
        for episode in _episodes(evidence, gap=10):
            found.add(_finding("structuring", person, [(move, "cash_in") for move in episode]))
    return found


def _closing(facts: Facts, account: str, day: dt.date) -> int:
    days = {row["seq"]: row["effective_date"] for row in facts.rows["transactions"]}
    return sum(
        row["amount"] if row["side"] == "credit" else -row["amount"]
        for row in facts.rows["entries"]
        if row["account"] == account and days[row["seq"]] <= day
    )


def rapid_movement(facts: Facts) -> set[Finding]:
    """Inflows of 2,000.00 of which 90 % leaves in 48 hours and the account is empty; twice in 30 days."""
    found = set()
    hours = dt.timedelta(hours=48)
    groups = _grouped((m for m in moves_of(facts) if not m.own), lambda m: m.account)
    for account, moves in groups.items():
        passes = []
        for number, inflow in enumerate(moves):
            if inflow.direction != "in" or inflow.amount < 200_000:
                continue
            sent = sum(
                move.amount
                for move in moves[number + 1 :]
                if move.direction == "out" and move.moment <= inflow.moment + hours
            )
            low = min(_closing(facts, account, inflow.day + days * DAY) for days in range(3))
            if sent * 100 >= inflow.amount * 90 and low * 100 <= inflow.amount * 5:
                passes.append(inflow)
        evidence: set[Move] = set()
        for last in passes:
            window = [m for m in passes if last.day - 29 * DAY <= m.day <= last.day]
            if len({move.day for move in window}) >= 2:
                evidence |= set(window)
        for episode in _episodes(evidence, gap=30):
            rows = [(move, "received") for move in episode]
            for number, move in enumerate(moves):
                before = [m for m in moves[:number] if m in evidence]
                if (
                    move.direction == "out"
                    and before
                    and before[-1] in episode
                    and move.moment <= before[-1].moment + hours
                ):
                    rows.append((move, "forwarded"))
            found.add(_finding("rapid_movement", account, rows))
    return found


def fan_in(facts: Facts) -> set[Finding]:
    """Five senders in 30 days, 60 % of them new, bringing 2,000.00 and twice what is usual."""
    days: dict[str, list[dt.date]] = defaultdict(list)
    came_with_balance = set()
    transactions = {row["seq"]: row for row in facts.rows["transactions"]}
    for row in facts.rows["entries"]:
        transaction = transactions[row["seq"]]
        days[row["account"]].append(transaction["effective_date"])
        if transaction["kind"] == "opening_balance":
            came_with_balance.add(row["account"])
    found = set()
    inflows = (m for m in moves_of(facts) if m.direction == "in" and not m.own and m.counterparty)
    for account, moves in _grouped(inflows, lambda m: m.account).items():
        known_from = min(days[account]) + (30 if account in came_with_balance else 0) * DAY
        first = {
            sender: min(move.day for move in group)
            for sender, group in _grouped(moves, lambda m: m.counterparty).items()
        }

        def is_new(move: Move, first=first, known_from=known_from) -> bool:
            begin = first[move.counterparty]
            return begin >= known_from and move.day < begin + 30 * DAY

        evidence = set()
        for last in {move.day for move in moves}:
            window = [m for m in moves if last - 29 * DAY <= m.day <= last]
            senders = {m.counterparty for m in window}
            new = {s for s in senders if first[s] >= known_from and first[s] > last - 30 * DAY}
            value = sum(m.amount for m in window if m.counterparty in new)
            past_days = (last - 29 * DAY - known_from).days
            past = sum(m.amount for m in moves if m.day <= last - 30 * DAY and is_new(m))
            usual = past_days < 30 or value * past_days >= past * 2 * 30
            if (
                len(senders) >= 5
                and len(new) * 100 >= len(senders) * 60
                and value >= 200_000
                and usual
            ):
                evidence |= set(window)
        for episode in _episodes(evidence, gap=30):
            roles = [(m, "from_new_sender" if is_new(m) else "from_known_sender") for m in episode]
            found.add(_finding("fan_in", account, roles))
    return found


RULES = (ctr_aggregation, structuring, rapid_movement, fan_in)


# --- the ledger's marts -------------------------------------------------------------------------


def holds(facts: Facts) -> dict[int, tuple[Any, ...]]:
    """Of each hold: state, end, captures, placed, captured, released, pending, last change."""
    found: dict[int, list[Any]] = {}
    for seq, hold, (what, ends, debits) in _of_holds(facts):
        if what == "hold.placed":
            found[hold] = ["open", None, 0, debits, 0, 0, debits, seq]
            continue
        state = found[hold]
        if what == "captured":
            state[2] += 1
            state[4] += debits
        if ends:
            state[0], state[1] = what, seq
            state[5] = state[3] - state[4]
        state[6] = state[3] - state[4] - state[5]
        state[7] = seq
    return {hold: tuple(state) for hold, state in found.items()}


def _of_holds(facts: Facts) -> list[tuple[int, int, tuple[str, bool, int]]]:
    debits: dict[int, int] = defaultdict(int)
    for row in facts.rows["entries"] + facts.rows["hold_entries"]:
        debits[row["seq"]] += row["amount"] if row["side"] == "debit" else 0
    steps = [
        (row["seq"], row["hold_seq"],
         (row.get("cause") or row["event_type"], bool(row.get("cause")), debits[row["seq"]]))
        for row in facts.rows["holds"]
    ] + [
        (row["seq"], row["captures_seq"], ("captured", row["ends_hold"], debits[row["seq"]]))
        for row in facts.rows["transactions"] if row.get("captures_seq")
    ]  # fmt: skip
    return sorted(steps)


def pending(facts: Facts) -> dict[str, tuple[int, int]]:
    """What open holds will still debit and credit on each account."""
    taken = {row["seq"]: row["captures_seq"] for row in facts.rows["transactions"]
             if row.get("captures_seq")}  # fmt: skip
    still_open = {hold for hold, state in holds(facts).items() if state[0] == "open"}
    sums: dict[str, dict[str, int]] = defaultdict(lambda: {"debit": 0, "credit": 0})
    for row in facts.rows["hold_entries"]:
        if row["seq"] in still_open:
            sums[row["account"]][row["side"]] += row["amount"]
    for row in facts.rows["entries"]:
        if taken.get(row["seq"]) in still_open:
            sums[row["account"]][row["side"]] -= row["amount"]
    return {account: (s["debit"], s["credit"]) for account, s in sums.items() if any(s.values())}


def periods(facts: Facts) -> Periods:
    """How far the books are closed, as the ledger itself works it out."""
    state = Periods()
    for row in facts.rows["periods"]:
        head = {"ledger": facts.ledger, "seq": row["seq"], "recorded_at": "", "actor": "key_1"}
        state.apply(_period_event(row["event_type"], row["day"].isoformat(), head))
    return state


def _period_event(event_type: str, day: str, head: dict[str, Any]) -> PeriodEvent:
    match event_type:
        case "period.soft_closed":
            return events.PeriodSoftClosed(through=day, **head)
        case "period.closed":
            return events.PeriodClosed(
                through=day, trial_balance=[], tree_size=0, tree_root="", checks=[], **head
            )
        case "period.reopened":
            return events.PeriodReopened(since=day, reason="", approval="", **head)
        case _:
            return events.DayAttested(day=day, reference="", **head)


def _movements(facts: Facts) -> list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], int]]:
    """Entries in the order of their days: entry, transaction, account, amount on the normal side."""
    transactions = {row["seq"]: row for row in facts.rows["transactions"]}
    accounts = {row["account"]: row for row in facts.rows["accounts"]}
    return [
        (row, transactions[row["seq"]], accounts[row["account"]],
         row["amount"] * (1 if row["side"] == accounts[row["account"]]["normal_side"] else -1))
        for row in sorted(facts.rows["entries"],
                          key=lambda e: (transactions[e["seq"]]["effective_date"], e["seq"]))
    ]  # fmt: skip


def months(facts: Facts) -> list[tuple[Any, ...]]:
    """Account, month, opening balance, debits, credits, closing balance, entries."""
    balances: dict[str, int] = defaultdict(int)
    rows: dict[tuple[str, dt.date], list[int]] = {}
    for entry, transaction, account, signed in _movements(facts):
        name = account["account"]
        month = transaction["effective_date"].replace(day=1)
        row = rows.setdefault((name, month), [balances[name], 0, 0, 0, 0])
        balances[name] += signed
        row[1 if entry["side"] == "debit" else 2] += entry["amount"]
        row[3], row[4] = balances[name], row[4] + 1
    return [(*key, *row) for key, row in rows.items()]


def positions(facts: Facts) -> list[tuple[Any, ...]]:
    """Party, day, class, custodial, debits, credits, balance."""
    balances: dict[tuple[Any, ...], int] = defaultdict(int)
    rows: dict[tuple[Any, ...], list[int]] = {}
    for entry, transaction, account, signed in _movements(facts):
        if account["owner"] is None:
            continue
        line = account["owner"], account["account_class"], account["custodial"]
        balances[line] += signed
        row = rows.setdefault((line[0], transaction["effective_date"], *line[1:]), [0, 0, 0])
        row[0 if entry["side"] == "debit" else 1] += entry["amount"]
        row[2] = balances[line]
    return [(*key, *row) for key, row in rows.items()]


def fees(facts: Facts) -> list[tuple[Any, ...]]:
    """Day, kind, rule, charged, taken back, transactions, last seq."""
    transactions = {row["seq"]: row for row in facts.rows["transactions"]}
    rows: dict[tuple[Any, ...], list[Any]] = {}
    for entry, transaction, account, _ in _movements(facts):
        charge = transactions[transaction.get("reverses_seq") or transaction["seq"]]
        if account["account_class"] != "income" or charge["kind"] == "interest":
            continue
        key = transaction["effective_date"], charge["kind"], charge.get("applied_rule") or ""
        row = rows.setdefault(key, [0, 0, set(), 0])
        row[0 if entry["side"] == "credit" else 1] += entry["amount"]
        row[2].add(entry["seq"])
        row[3] = max(row[3], entry["seq"])
    return [(*key, one, other, len(seqs), last) for key, (one, other, seqs, last) in rows.items()]
