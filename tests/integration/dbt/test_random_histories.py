"""Hypothesis draws histories and where they are cut: increments equal a full refresh, mart by mart.

A history goes by steps that Hypothesis can take away one by one, so that what is left of a failure is
short. Several ledgers share a warehouse: an example costs as many runs of dbt as it has pieces, and
one more. EXAMPLES=n (`make test-history`) takes more of them, and shortens what fails.
"""

from __future__ import annotations

import datetime as dt
import os
from typing import Any, NamedTuple

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from ledger_service.contract.events import Entry
from ledger_service.contract.snapshots import Part
from ledger_service.domain import legs
from pipelines.publication import parts
from pipelines.publication.parts import KnownParts, content_of
from pipelines.warehouse.dbt import published_marts
from tests.compared_marts import compared_marts
from tests.integration.dbt.warehouse import LANDING, Facts, Row, Warehouse

START = dt.datetime(2026, 3, 2, 12)
CUSTOMERS = 4
EXAMPLES = int(os.environ.get("EXAMPLES", "0"))
SHORT = (Phase.explicit, Phase.generate)
QUICK = settings(
    # So many examples take a while; a failure is shortened where there is time for it.
    max_examples=-(-EXAMPLES // 10) or 1,
    phases=(*SHORT, Phase.shrink) if EXAMPLES else SHORT,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class Step(NamedTuple):
    """One thing that happens in a ledger. What it makes of the numbers depends on the kind."""

    kind: str
    customer: int
    other: int
    amount: int
    days: int
    """That pass before it."""
    backdated: int
    """Days that it counts earlier than it is recorded."""
    share: int
    """Of a hold or a reversal: 1 is the whole, 2 a half, 3 a third."""


STEPS = (
    "receive", "cash", "pay_out", "transfer", "wire_out", "reverse", "reverse", "fee", "rule_fee",
    "interest", "hold", "hold", "capture", "capture", "release", "soft_close", "close", "reopen",
    "attest", "statement", "statement", "restate", "party", "account",
)  # fmt: skip
step = st.builds(
    Step,
    kind=st.sampled_from(STEPS),
    customer=st.integers(0, CUSTOMERS - 1),
    other=st.integers(0, CUSTOMERS - 1),
    # Around the limits of the rules, so that one reversal more or less decides.
    amount=st.sampled_from([1, 2, 333, 100_000, 300_000, 600_000, 999_999, 1_000_001]),
    days=st.sampled_from([0, 0, 0, 1, 1, 3, 31]),
    backdated=st.sampled_from([0, 0, 0, 1, 7, 45]),
    share=st.integers(1, 3),
)
histories = st.lists(st.lists(step, min_size=20, max_size=45), min_size=4, max_size=4)
cuts = st.lists(st.tuples(st.integers(1, 99), st.integers(0, 100)), min_size=1, max_size=2)
"""Where a piece ends, in hundredths: of each ledger's journal, and of the streams beside it."""


class Books:
    """A ledger in the making; each step is one that the ledger would have taken."""

    def __init__(self, name: str) -> None:
        self.facts = Facts(name)
        self.now = START
        self._fees = self.facts.account("income:fees")
        self._loans = self.facts.account("receivable:loans")
        self._clearing = self.facts.account("clearing:card")
        self.facts.account("bank:fbo")
        self._customers = [
            self.facts.account(f"customer:{n}:wallet", owner=f"{name}_p{n // 2}" if n else None)
            for n in range(CUSTOMERS)
        ]
        self._token = self.facts.statement_account("bank:fbo", token=f"{name}_fbo")
        self._left: dict[int, legs.Left] = {}
        self._stated: list[tuple[dt.date, list[tuple[int, str | None]]]] = []
        self._stated_to = 0

    def take(self, one: Step) -> None:
        """Do one step; a capture without a hold, and the like, is none."""
        self.now += dt.timedelta(days=one.days, minutes=1)
        getattr(self, f"_{one.kind}")(one, self.now - dt.timedelta(days=one.backdated))

    def _receive(self, one: Step, at: dt.datetime, **values: Any) -> None:
        reference = f"{self.facts.ledger}_{self.facts.seq}" if one.share > 1 else None
        values = {"channel": "ach", "counterparty": f"x{one.other}", **values}
        customer = self._customers[one.customer]
        self.facts.receive(at, customer, one.amount, rail_reference=reference, **values)

    def _cash(self, one: Step, at: dt.datetime) -> None:
        conductor = f"{self.facts.ledger}_p0" if one.other else None
        self._receive(one, at, channel="cash", kind="cash_deposit", conductor=conductor)

    def _pay_out(self, one: Step, at: dt.datetime) -> None:
        self.facts.pay_out(at, self._customers[one.customer], one.amount, channel="ach")

    def _wire_out(self, one: Step, at: dt.datetime) -> None:
        self.facts.pay_out(at, self._customers[one.customer], one.amount, channel="wire")

    def _transfer(self, one: Step, at: dt.datetime) -> None:
        other = self._customers[(one.customer + 1 + one.other % (CUSTOMERS - 1)) % CUSTOMERS]
        self.facts.transfer(at, self._customers[one.customer], other, one.amount)

    def _fee(self, one: Step, at: dt.datetime, **values: Any) -> None:
        sides = [(self._customers[one.customer], "debit", one.amount)]
        sides.append((self._fees, "credit", one.amount))
        self.facts.post(at, sides, kind="fee", **values)

    def _rule_fee(self, one: Step, at: dt.datetime) -> None:
        self._fee(
            one, at, applied_rule="card", applied_version=1,
            applied_account=self._customers[one.customer], applied_of_amount=one.amount,
        )  # fmt: skip

    def _interest(self, one: Step, at: dt.datetime) -> None:
        sides = [(self._loans, "debit", one.amount), (self._fees, "credit", one.amount)]
        self.facts.post(at, sides, kind="interest", applied_rule="loan", applied_version=1)

    def _reverse(self, one: Step, at: dt.datetime) -> None:
        reversed_ = {row.get("reverses_seq") for row in self.facts.rows["transactions"]}
        open_ = [
            row["seq"]
            for row in self.facts.rows["transactions"]
            if not row.get("reverses_seq")
            and row["seq"] not in reversed_
            and row["entry_count"] == 2
        ]
        if open_:
            seq = open_[(one.customer * CUSTOMERS + one.other) * len(open_) // CUSTOMERS**2]
            amount = next(r["amount"] for r in self.facts.rows["entries"] if r["seq"] == seq)
            self.facts.reverse(at, seq, -(-amount // one.share))

    def _hold(self, one: Step, at: dt.datetime) -> None:
        amount = one.amount + 2
        placed = [
            Entry(self._customers[one.customer], "debit", str(amount), "USD"),
            Entry(self._clearing, "credit", str(amount - 1), "USD"),
            Entry(self._fees, "credit", "1", "USD"),
        ]
        expires = at + dt.timedelta(days=7) if one.share == 1 else None
        seq = self.facts.hold(expires, _plain(placed))
        self._left[seq] = legs.left_of(placed)

    def _capture(self, one: Step, at: dt.datetime) -> None:
        if self._left:
            hold = list(self._left)[one.customer % len(self._left)]
            rest = legs.total(self._left[hold])
            part = -(-rest // one.share)
            taken = legs.part(self._left[hold], part)
            for entry in taken:
                self._left[hold][entry.account, entry.side, entry.currency] -= int(entry.amount)
            ends = part == rest or one.other == 0
            self.facts.capture(at, hold, _plain(taken), ends=ends)
            if ends:
                del self._left[hold]

    def _release(self, one: Step, at: dt.datetime) -> None:
        del at
        if self._left:
            hold = list(self._left)[one.customer % len(self._left)]
            left = legs.part(self._left.pop(hold), None)
            self.facts.release(hold, _plain(left), "voided" if one.share > 1 else "expired")

    def _soft_close(self, one: Step, at: dt.datetime) -> None:
        del one
        self.facts.period("period.soft_closed", at.date())

    def _close(self, one: Step, at: dt.datetime) -> None:
        del one
        self.facts.period("period.closed", at.date(), tree_root="ab" * 32)

    def _reopen(self, one: Step, at: dt.datetime) -> None:
        del one
        self.facts.period("period.reopened", at.date(), reason="late_invoice", approval="apr_1")

    def _attest(self, one: Step, at: dt.datetime) -> None:
        del one
        self.facts.period("day.attested", at.date(), reference="stm_1")

    def _statement(self, one: Step, at: dt.datetime) -> None:
        """What the ledger has posted since the last one; a line lost, or one cent off, or none."""
        days = {row["seq"]: row for row in self.facts.rows["transactions"]}
        lines: list[tuple[int, str | None]] = []
        for row in self.facts.rows["entries"]:
            if row["account"] == "bank:fbo" and row["seq"] > self._stated_to:
                signed = row["amount"] if row["side"] == "debit" else -row["amount"]
                lines.append((signed, days[row["seq"]].get("rail_reference")))
        self._stated_to = self.facts.seq
        if lines and one.other == 0:
            lines.pop(one.customer % len(lines))
        elif lines and one.other == 1:
            lines[0] = (lines[0][0] + 1, lines[0][1])
        day = at.date()
        self._stated.append((day, lines))
        self._state(day, lines)

    def _restate(self, one: Step, at: dt.datetime) -> None:
        """The bank corrects a day that it stated: only the later statement counts."""
        del at
        if self._stated:
            place = one.customer % len(self._stated)
            day, lines = self._stated[place]
            self._stated[place] = (day, lines[one.share - 1 :])
            self._state(day, lines[one.share - 1 :])

    def _state(self, day: dt.date, lines: list[tuple[int, str | None]]) -> None:
        closing = sum(
            amount for before, them in self._stated if before <= day for amount, _ in them
        )
        name = f"{self._token}_{self.facts.stream_seq}"
        self.facts.statement(self._token, day, closing, lines, name=name)

    def _party(self, one: Step, at: dt.datetime) -> None:
        del at
        self.facts.register(
            f"{self.facts.ledger}_p{one.customer // 2}",
            risk_tier=("low", "medium", "high")[one.share - 1],
        )

    def _account(self, one: Step, at: dt.datetime) -> None:
        """One that is opened late, and moves at once."""
        late = self.facts.account(f"customer:late{self.facts.seq}:wallet", owner=None)
        self.facts.transfer(at, self._customers[one.customer], late, one.amount)


def _plain(entries: list[Entry]) -> list[tuple[str, str, int]]:
    return [(entry.account, entry.side, int(entry.amount)) for entry in entries]


def written(steps: list[list[Step]]) -> list[Facts]:
    """A ledger of each list."""
    ledgers = []
    for number, history in enumerate(steps):
        books = Books(f"drawn_{number}")
        for one in history:
            books.take(one)
        ledgers.append(books.facts)
    return ledgers


def pieces(ledgers: list[Facts], at: list[tuple[int, int]]) -> list[dict[str, list[Row]]]:
    """The facts cut at each point and at the end; a stream never goes back, however it is cut."""
    ends = [*sorted(journal for journal, _ in at), 100], [*sorted(s for _, s in at), 100]
    found: list[dict[str, list[Row]]] = [{table: [] for table in LANDING} for _ in ends[0]]
    for facts in ledgers:
        for table, rows in facts.rows.items():
            for row in rows:
                last, limits = (
                    (facts.stream_seq, ends[1]) if "stream" in row else (facts.seq, ends[0])
                )
                place = next(n for n, end in enumerate(limits) if row["seq"] * 100 <= last * end)
                found[place][table].append(row)
    return found


def hashes(warehouse: Warehouse) -> dict[str, tuple[int, str]]:
    """Rows and content hash of each contracted mart, and of what increments keep besides."""
    with duckdb.connect(str(warehouse.file)) as connection:
        names = compared_marts(warehouse.manifest)
        return {name: content_of(connection, name) for name in names}


def parts_of(warehouse: Warehouse, known: KnownParts) -> dict[str, list[Part]]:
    """What would be published, with parts of a few events."""
    with (
        pytest.MonkeyPatch.context() as patch,
        duckdb.connect(str(warehouse.file)) as connection,
    ):
        patch.setattr(parts, "PART_EVENTS", 4)
        return {
            mart.name: parts.write_parts(connection, mart, warehouse.file.parent, known)
            for mart in published_marts(warehouse.manifest)
            if mart.divided_by
        }


@pytest.mark.timeout(900)  # a failure is run a second time, to be told
@QUICK
@given(steps=histories, at=cuts)
def test_a_full_refresh_equals_what_grew(
    tmp_path_factory, steps: list[list[Step]], at: list[tuple[int, int]]
) -> None:
    # Hypothesis begins with the plainest example there is, which would be the only one.
    assume(len({one.kind for history in steps for one in history}) >= len(set(STEPS)) // 2)
    warehouse = Warehouse(tmp_path_factory.mktemp("drawn"))
    known = KnownParts()
    for piece in pieces(written(steps), at):
        warehouse.build(piece)
        assert parts_of(warehouse, known) == parts_of(warehouse, KnownParts())
    grown = hashes(warehouse)
    warehouse.dbt("run", "--full-refresh")
    made_anew = hashes(warehouse)
    assert len(grown) >= 20
    different = {name: (grown[name], made_anew[name]) for name in grown}
    assert not {name for name, (one, other) in different.items() if one != other}
