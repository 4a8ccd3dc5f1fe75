"""Histories that make the rules and the reconciliation work: random ones, and cases by hand."""

from __future__ import annotations

import datetime as dt
import random
from collections import defaultdict

from ledger_service.contract.events import Entry
from ledger_service.domain import legs
from tests.integration.dbt.warehouse import Facts, Leg, Row

START = dt.date(2026, 3, 2)
"""A Monday."""


def at(day: int, hour: int = 12) -> dt.datetime:
    """A moment that many days after the start."""
    return dt.datetime.combine(START + dt.timedelta(days=day), dt.time(hour))


def random_history(name: str, seed: int) -> Facts:
    """Two hundred movements among nine accounts, out of order in time, some reversed.

    Amounts stand close to the rules' limits, so that each rule both fires and just does not.
    """
    dice = random.Random(seed)
    facts = Facts(name)
    facts.account("bank:fbo")
    customers = [
        facts.account(f"customer:{number}:wallet", owner=f"p{number // 2}" if number % 3 else None)
        for number in range(9)
    ]
    token = facts.statement_account("bank:fbo", token=f"{name}_fbo")
    for customer in customers[::2]:
        facts.receive(at(0, 1), customer, dice.randrange(1, 300_000), kind="opening_balance")
    posted = []
    days = sorted(dice.randrange(110) for _ in range(200))
    for day in days:
        # Backdated by up to a week now and then.
        moment = at(max(0, day - dice.choice([0, 0, 0, 7])), dice.randrange(24))
        customer, other = dice.sample(customers, 2)
        match dice.randrange(8):
            case 0 | 1:
                amount = dice.choice([299_999, 300_000, 400_000, 600_000, 1_000_000, 1_000_001])
                posted.append(facts.receive(
                    moment, customers[dice.randrange(3)], amount, channel="cash",
                    kind="cash_deposit", conductor=dice.choice([None, "p1", "courier"]),
                    business_date=moment.date() + dt.timedelta(days=dice.randrange(2)),
                ))  # fmt: skip
            case 2:
                posted.append(facts.pay_out(
                    moment, customer, dice.choice([500_000, 600_000]), channel="cash",
                    kind="cash_withdrawal",
                ))  # fmt: skip
            case 3:
                # In, and the whole balance out again, more or less.
                amount = dice.choice([199_999, 200_000, 900_000])
                posted.append(facts.receive(moment, customers[7], amount, counterparty="shop"))
                later = moment + dt.timedelta(hours=dice.choice([0, 1, 47, 48, 49]))
                share = dice.choice([89, 90, 95, 100, 100])
                facts.pay_out(later, customers[7], amount * share // 100, channel="wire")
            case 4 | 5:
                sender = dice.choice([f"x{dice.randrange(40)}", "employer"])
                posted.append(facts.receive(
                    moment, customers[dice.choice([4, 5])], dice.choice([30_000, 100_000]),
                    channel="ach", counterparty=sender,
                ))  # fmt: skip
            case 6:
                posted.append(facts.transfer(moment, customer, other, dice.randrange(1, 90_000)))
            case 7 if posted:
                seq = posted.pop(dice.randrange(len(posted)))
                amount = next(r["amount"] for r in facts.rows["entries"] if r["seq"] == seq)
                facts.reverse(moment, seq, dice.choice([None, (amount + 1) // 2]))
    _state(facts, token, dice)
    return facts


def _state(facts: Facts, token: str, dice: random.Random) -> None:
    """Daily statements of the ledger's own entries, late, lost, doubled and misstated now and then."""
    days = {row["seq"]: row for row in facts.rows["transactions"]}
    by_day: dict[dt.date, list[tuple[int, str | None]]] = {START: []}
    for row in facts.rows["entries"]:
        if row["account"] != "bank:fbo" or days[row["seq"]]["kind"] == "opening_balance":
            continue
        signed = row["amount"] if row["side"] == "debit" else -row["amount"]
        day = days[row["seq"]]["effective_date"]
        reference = f"{facts.ledger}_{row['seq']}"
        if dice.random() < 0.8:
            days[row["seq"]]["rail_reference"] = reference
        fate = dice.random()
        if fate < 0.04:
            continue
        by_day.setdefault(day + dt.timedelta(days=dice.choice([0, 0, 1])), []).append(
            (signed + (fate > 0.96), reference if dice.random() < 0.8 else None)
        )
        if 0.04 < fate < 0.08:
            by_day[max(by_day)].append((signed, reference))
    balance = sum(
        row["amount"] for row in facts.rows["entries"]
        if row["account"] == "bank:fbo" and days[row["seq"]]["kind"] == "opening_balance"
    )  # fmt: skip
    for day in sorted(by_day):
        balance += sum(amount for amount, _ in by_day[day])
        facts.statement(token, day, balance, by_day[day])


def cases() -> Facts:
    """Each kind of break once, by hand; statements from Monday 2 to Tuesday 10 March 2026."""
    facts = Facts("cases")
    for account in ["bank:fbo", "bank:operating", "clearing:ach"]:
        facts.account(account)
    someone = facts.account("customer:1:wallet", owner="p1")
    token = facts.statement_account("bank:fbo", token="cases_fbo")
    facts.receive(at(-3), someone, 10_000, kind="deposit", rail_reference="before")
    facts.receive(at(0, 1), someone, 5_000, kind="opening_balance")
    facts.receive(at(0), someone, 101, rail_reference="agreed")
    facts.receive(at(0), someone, 202, rail_reference="misstated")
    facts.receive(at(0), someone, 303, rail_reference="lost")
    facts.receive(at(1), someone, 404, rail_reference="doubled")
    facts.receive(at(4), someone, 505)  # Friday; the bank's Tuesday is two banking days later
    facts.receive(at(0), someone, 606)  # Monday; three banking days before the bank's Thursday
    facts.receive(at(7), someone, 707, rail_reference="soon")  # one banking day before the last
    facts.receive(at(9), someone, 808, rail_reference="later")  # no statement covers it
    facts.pay_out(at(1), someone, 909, rail_reference="out")
    facts.post(at(1), [(someone, "debit", 50), ("clearing:ach", "credit", 50)])
    lines: dict[int, list[tuple[int, str | None]]] = {
        0: [(101, "agreed"), (212, "misstated")],
        1: [(404, "doubled"), (404, "doubled"), (-909, "out")],
        2: [(111, "unknown"), (909, "out")],
        3: [(606, None)],
        7: [],
        8: [(505, None)],
    }
    balance = 15_000
    for day, stated in lines.items():
        balance += sum(amount for amount, _ in stated)
        facts.statement(token, at(day).date(), balance, stated)
    # The operating account's bank forgets a line in its sum: nothing explains that.
    operating = facts.statement_account("bank:operating", "operating", token="cases_operating")
    facts.statement(operating, at(0).date(), 7, [])
    # A bank states a day again; only the second one counts.
    facts.statement(operating, at(1).date(), 999, [(999, "mistake")], name="mistake")
    facts.statement(operating, at(1).date(), 0, [], name="corrected")
    return facts


def stated_cases() -> Facts:
    """Stated balances: rounding explains half a minor unit an entry, and nothing more."""
    facts = Facts("stated")
    facts.account("bank:fbo")
    facts.account("bank:operating")
    facts.statement_account("bank:fbo", token="stated_fbo")
    facts.post(at(0), [("bank:operating", "debit", 5), ("bank:fbo", "credit", 5)])
    for number, (rounded, stated) in enumerate(
        [
            (0, [1_000, 1_100]),  # equal
            (0, [1_000, 1_101]),  # one off, nothing rounded
            (1, [1_000, 1_101]),  # one off, two entries rounded
            (1, [1_001, 1_100]),  # one off after one entry, then agrees
            (1, [1_001, 1_102]),  # two off after two entries
        ]
    ):
        account = facts.account(f"customer:{number}:wallet")
        token = facts.statement_account(
            account, "stated_balance", rounded, token=f"stated_{number}"
        )
        facts.receive(at(0), account, 1_000)
        facts.receive(at(5), account, 100)
        facts.statement(token, at(1).date(), stated[0])
        facts.statement(token, at(6).date(), stated[1])
    # Registered long after it moved: its whole past is to be reconciled.
    facts.statement_account("bank:operating", "operating", token="stated_operating")
    return facts


def own_currency() -> Facts:
    """A ledger that keeps a currency which it declared itself."""
    facts = Facts("own")
    facts.declare_currency("POINTS", 9)
    fbo, customer = facts.account("bank:fbo"), facts.account("customer:1:points")
    facts.post(at(1), [(fbo, "debit", 2**62), (customer, "credit", 2**62)])
    facts.post(at(2), [(fbo, "debit", 2**62), (customer, "credit", 2**62)])
    return facts


def everything_in(name: str, currency: str, places: int | None) -> Facts:
    """What puts an amount into every mart that has one, in a currency that is not ISO 4217's.

    Without `places` nobody declared it.
    """
    facts = Facts(name)
    facts.currency = currency
    if places is not None:
        facts.declare_currency(currency, places)
    fbo, someone = facts.account("bank:fbo"), facts.account("customer:1:wallet", owner="p1")
    token = facts.statement_account(fbo, token=f"{name}_fbo")
    stated = facts.statement_account(someone, "stated_balance", token=f"{name}_stated")
    facts.receive(
        at(0), someone, 1_000_001, channel="cash", kind="cash_deposit", rail_reference="agreed"
    )
    fees, payer = facts.account("income:fees"), facts.account("customer:2:wallet")
    facts.post(at(0), [(payer, "debit", 5), (fees, "credit", 5)], kind="fee")
    facts.hold(None, [(payer, "debit", 7), (fees, "credit", 7)])
    facts.statement(token, at(0).date(), 1_000_008, [(1_000_001, "agreed"), (7, "unknown")])
    facts.statement(stated, at(0).date(), 1_000_003)
    return facts


def held(name: str, seed: int) -> Facts:
    """Holds captured in parts, voided and expired; fees by rule and by hand, some reversed; interest;
    periods closed and reopened. Out of order in time, over four months.
    """
    dice = random.Random(seed)
    facts = Facts(name)
    fees, clearing = facts.account("income:fees"), facts.account("clearing:card")
    loans = facts.account("receivable:loans")
    facts.account("bank:fbo")
    customers = [facts.account(f"customer:{n}:wallet", owner=f"p{n // 2}") for n in range(5)]
    facts.account("receivable:p1", owner="p1")
    left: dict[int, legs.Left] = {}
    charged: list[int] = []
    for day in sorted(dice.randrange(110) for _ in range(150)):
        moment = at(max(0, day - dice.choice([0, 0, 0, 40])), dice.randrange(24))
        customer = dice.choice(customers)
        match dice.randrange(9):
            case 0 | 1:
                amount = dice.randrange(50, 5_000)
                placed = [Entry(customer, "debit", str(amount), "USD"),
                          Entry(clearing, "credit", str(amount - 2), "USD"),
                          Entry(fees, "credit", "2", "USD")]  # fmt: skip
                expires = dice.choice([None, moment + dt.timedelta(days=7)])
                left[facts.hold(expires, _legs(placed))] = legs.left_of(placed)
            case 2 | 3 | 4 if left:
                hold = dice.choice(list(left))
                rest = legs.total(left[hold])
                part = dice.choice([rest, rest, (rest + 2) // 3, 1])
                taken = legs.part(left[hold], part)
                for entry in taken:
                    left[hold][entry.account, entry.side, entry.currency] -= int(entry.amount)
                ends = part == rest or dice.random() < 0.3
                facts.capture(moment, hold, _legs(taken), ends=ends)
                if ends:
                    del left[hold]
            case 5 if left:
                hold = dice.choice(list(left))
                cause = dice.choice(["voided", "expired"])
                facts.release(hold, _legs(legs.part(left.pop(hold), None)), cause)
            case 6:
                amount = dice.randrange(1, 900)
                rule = dice.choice([{}, {"applied_rule": "card", "applied_version": 1,
                                         "applied_account": customer,
                                         "applied_of_amount": amount * 10}])  # fmt: skip
                sides = [(customer, "debit", amount), (fees, "credit", amount)]
                charged.append(facts.post(moment, sides, kind="fee", **rule))
            case 7 if charged:
                seq = charged.pop(dice.randrange(len(charged)))
                amount = next(r["amount"] for r in facts.rows["entries"] if r["seq"] == seq)
                facts.reverse(moment, seq, dice.choice([None, (amount + 1) // 2]))
            case 8:
                lent = [(dice.choice([loans, "receivable:p1"]), "debit", 40), (fees, "credit", 40)]
                facts.post(moment, lent, kind="interest", applied_rule="loan", applied_version=1)
            case _:
                facts.receive(moment, customer, dice.randrange(1, 90_000))
        if day % 9 == 0:
            _of_periods(facts, at(day).date(), dice)
    return facts


def _legs(entries: list[Entry]) -> list[Leg]:
    return [(entry.account, entry.side, int(entry.amount)) for entry in entries]


def _of_periods(facts: Facts, day: dt.date, dice: random.Random) -> None:
    match dice.randrange(4):
        case 0:
            facts.period("period.soft_closed", day)
        case 1:
            facts.period("period.closed", day, tree_root="ab" * 32)
        case 2:
            since = day - dt.timedelta(days=dice.randrange(20))
            facts.period("period.reopened", since, reason="late_invoice", approval="apr_1")
        case 3:
            facts.period("day.attested", day, reference="stm_1")


def asked() -> Facts:
    """A history with statements and reversals, of which some entries were imposed or came late."""
    facts = random_history("asked", 5)
    fbo, someone = "bank:fbo", "customer:1:wallet"
    late = [(someone, "debit", 70), (fbo, "credit", 70)]
    for day in (3, 3, 9):
        facts.post(at(day), late, kind="ach_return", channel="ach", imposed=True)
    for day, banking_day in ((4, 7), (5, 7), (6, 7), (8, 8)):
        facts.post(
            at(day, 23), [(fbo, "debit", 30 + day), (someone, "credit", 30 + day)],
            channel="wire", business_date=at(banking_day).date(),
        )  # fmt: skip
    for row in facts.rows["transactions"][::7]:
        row["recorded_at"] = row["effective_at"] + dt.timedelta(days=row["seq"] % 5, hours=2)
    return facts


def slices(parts: list[Facts], count: int) -> list[dict[str, list[Row]]]:
    """The facts in the order of their sequences, in pieces; the statements of every other
    ledger, and the registration of what they are about, lag behind by a piece, the others by half.

    Within a piece rows are shuffled and some stand twice.
    """
    dice = random.Random(1)
    pieces: list[dict[str, list[Row]]] = [defaultdict(list) for _ in range(count)]
    for number, part in enumerate(parts):
        for table, rows in part.rows.items():
            for row in rows:
                behind = 2 - number % 2 if "stream" in row else 0
                last = part.stream_seq if behind else part.seq
                halves = 2 * row["seq"] * count // (last + 1)
                place = min((halves + behind) // 2, count - 1)
                pieces[place][table] += [row] * dice.choice([1, 1, 1, 2])
    for piece in pieces:
        for rows in piece.values():
            dice.shuffle(rows)
    return pieces


RANDOM = [random_history(f"random_{seed}", seed) for seed in range(12)]
HELD = [held(f"held_{seed}", seed) for seed in range(6)]
ASKED = asked()
ALL = [cases(), stated_cases(), own_currency(), *RANDOM, *HELD, ASKED]
