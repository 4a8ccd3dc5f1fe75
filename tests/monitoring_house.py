"""A small house for the tests of monitoring: a history of a ledger, its marts published in the
contract's format, candidates with known evidence, and breaks with both sides.

Everything follows from one list of transactions, so that pages can be checked by adding up.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec
import pyarrow as pa

from ledger_service.contract import events, snapshots
from ledger_service.contract.rules import Part, Tier
from tests.merkle import leaf, root

LEDGER = "simulated"
FIRST_DAY = dt.date(2026, 7, 1)
DAYS = 45
CANARY = '"><script>window.canary=1</script><img src=x onerror="window.canary=1">'
"""Text that would run if a page did not escape it."""
OWNERS = {
    number: f"pty_{hashlib.sha256(str(number).encode()).hexdigest()[:26]}"
    for number in range(1, 13)
}

_CHART = {
    "bank:fbo": ("asset", "debit", True, "1010"),
    "clearing:ach": ("liability", "credit", True, "2110"),
    "income:fees": ("income", "credit", False, "4010"),
    "bank:operating": ("asset", "debit", False, "1020"),
}


class Posting(NamedTuple):
    """One transaction before it has a `seq`."""

    day: dt.date
    kind: str
    channel: str
    entries: list[tuple[str, str, int]]
    reference: str | None = None
    counterparty: str | None = None
    reverses: int | None = None


def wallet(number: int) -> str:
    return f"customer:{number}:wallet"


def _class(account: str) -> tuple[str, str, bool, str]:
    return _CHART.get(account, ("liability", "credit", True, "2010"))


def postings() -> list[Posting]:
    """Payroll and card days, four cash deposits below the threshold, a fan-in, a pass-through."""
    made = []
    for number in range(DAYS):
        day = FIRST_DAY + dt.timedelta(days=number)
        for customer in OWNERS:
            if (number + customer) % 14 == 0:
                entries = [
                    ("bank:fbo", "debit", 240_000 + 1_117 * customer),
                    (wallet(customer), "credit", 240_000 + 1_117 * customer),
                ]
                made.append(Posting(day, "payroll", "ach", entries, f"PAY-{number}-{customer}"))
            elif number > 14 and (number * customer) % 3 == 0:
                amount = 1_950 + 37 * customer + 11 * number
                made.append(
                    Posting(
                        day,
                        "card_purchase",
                        "card",
                        [(wallet(customer), "debit", amount), ("bank:fbo", "credit", amount)],
                        f"CARD-{number}-{customer}",
                    )
                )
        if number in (20, 21, 23, 24):
            amount = 940_000 + 1_000 * number
            made.append(
                Posting(
                    day,
                    "cash_deposit",
                    "cash",
                    [("bank:fbo", "debit", amount), (wallet(3), "credit", amount)],
                    f"CASH-{number}",
                    CANARY,
                )
            )
        if number in (30, 31):
            made += [
                Posting(
                    day,
                    "transfer",
                    "internal",
                    [
                        (wallet(sender), "debit", 21_000 + sender),
                        (wallet(9), "credit", 21_000 + sender),
                    ],
                    counterparty=wallet(sender),
                )
                for sender in (1, 2, 4, 5, 6, 7, 8)
            ]
        if number == 33:
            made.append(
                Posting(
                    day,
                    "wire_in",
                    "wire",
                    [("bank:fbo", "debit", 1_800_000), (wallet(10), "credit", 1_800_000)],
                    "WIRE-IN-33",
                )
            )
            made.append(
                Posting(
                    day,
                    "wire_out",
                    "wire",
                    [(wallet(10), "debit", 1_790_000), ("bank:fbo", "credit", 1_790_000)],
                    "WIRE-OUT-33",
                )
            )
        if number == 44:
            made.append(
                Posting(
                    day,
                    "ach_credit",
                    "ach",
                    [(wallet(1), "debit", 125_000), ("clearing:ach", "credit", 125_000)],
                    "ACH-44",
                )
            )
    return made


class House:
    """A ledger's events and what the pipelines would publish of them."""

    def __init__(self, snapshots_folder: Path, *, version: int = 0) -> None:
        self.folder = snapshots_folder
        self.journal: list[events.JournalEvent] = []
        self.version = version
        self._open_accounts()
        for posting in postings():
            self.post(posting)
        self._keep_books()

    def _open_accounts(self) -> None:
        self.journal.append(
            events.LedgerOpened(
                ledger=LEDGER,
                seq=1,
                recorded_at=_time(FIRST_DAY),
                actor="key_loader",
                currencies=["USD"],
                time_zone="America/New_York",
                cut_off="17:00",
                calendar="us_fed",
                chart="us_fintech_fbo/1",
            )
        )
        for account in [*_CHART, *map(wallet, OWNERS)]:
            kind, normal, custodial, gl_code = _class(account)
            owner = OWNERS[int(account.split(":")[1])] if account.startswith("customer") else None
            self.journal.append(
                events.AccountOpened(
                    ledger=LEDGER,
                    seq=len(self.journal) + 1,
                    recorded_at=_time(FIRST_DAY),
                    actor="key_loader",
                    account=account,
                    currency="USD",
                    account_class=kind,
                    normal_side=normal,
                    custodial=custodial,
                    gl_code=gl_code,
                    owner=owner,
                )
            )

    def _keep_books(self) -> None:
        """A hold that is open, a rule with what it charged, and a closing that was reopened."""

        def add(event: type[Any], **fields: Any) -> int:
            seq = len(self.journal) + 1
            at = _time(FIRST_DAY + dt.timedelta(days=DAYS))
            self.journal.append(
                event(ledger=LEDGER, seq=seq, recorded_at=at, actor="usr_operator", **fields)
            )
            return seq

        self.hold = add(
            events.HoldPlaced,
            kind="card_purchase",
            entries=[
                events.Entry(wallet(1), "debit", "6000", "USD"),
                events.Entry("clearing:ach", "credit", "6000", "USD"),
            ],
            context=events.Context(channel="card", rail_reference=CANARY),
            idempotency_digest="0" * 64,
        )
        self.rule = "card_fee"
        add(
            events.RuleDeclared,
            rule=self.rule,
            version=1,
            since=FIRST_DAY.isoformat(),
            kind="fee",
            currency="USD",
            tiers=[Tier(rate="0.029", fixed="30")],
            debit=[Part("{account}", 1)],
            credit=[Part("income:fees", 1)],
        )
        tree = [leaf(events.encode(event)) for event in self.journal]
        self.closing = add(
            events.PeriodClosed,
            through=(FIRST_DAY + dt.timedelta(days=9)).isoformat(),
            trial_balance=[
                events.TrialLine(
                    gl_code, kind, custodial=True, currency="USD", debits=debits, credits=credits_
                )
                for gl_code, kind, debits, credits_ in (
                    ("1010", "asset", "700", "0"),
                    ("2010", "liability", "0", "700"),
                )
            ],
            tree_size=len(tree),
            tree_root=root(tree).hex(),
            checks=["sequence_gapless", "debits_equal_credits"],
        )
        add(
            events.PeriodReopened,
            since=(FIRST_DAY + dt.timedelta(days=5)).isoformat(),
            reason="late_statement",
            approval="apr_reopening",
        )

    def post(self, posting: Posting) -> int:
        """Append a transaction; gives its `seq`."""
        seq = len(self.journal) + 1
        self.journal.append(
            events.TransactionPosted(
                ledger=LEDGER,
                seq=seq,
                recorded_at=_time(posting.day, 16, seq % 60),
                actor="key_loader",
                kind=posting.kind,
                effective_at=_time(posting.day, 15, seq % 60),
                effective_date=posting.day.isoformat(),
                business_date=posting.day.isoformat(),
                entries=[
                    events.Entry(account, side, str(amount), "USD")
                    for account, side, amount in posting.entries
                ],
                context=events.Context(
                    channel=posting.channel,
                    rail_reference=posting.reference,
                    counterparty=posting.counterparty,
                ),
                idempotency_digest=hashlib.sha256(str(seq).encode()).hexdigest(),
                reverses=posting.reverses,
            )
        )
        return seq

    def transactions(self) -> list[events.TransactionPosted]:
        return [event for event in self.journal if isinstance(event, events.TransactionPosted)]

    def seqs(self, kind: str) -> list[int]:
        return [event.seq for event in self.transactions() if event.kind == kind]

    def reverse(self, seq: int) -> int:
        """Post the mirror of a transaction, the day after the last one."""
        original = next(event for event in self.transactions() if event.seq == seq)
        swap = {"debit": "credit", "credit": "debit"}
        day = FIRST_DAY + dt.timedelta(days=DAYS - 1)
        entries = [
            (entry.account, swap[entry.side], int(entry.amount)) for entry in original.entries
        ]
        return self.post(Posting(day, "reversal", original.context.channel, entries, reverses=seq))

    def candidate(
        self,
        rule: str,
        seqs: list[int],
        *,
        subject: str,
        account: str,
        why: str = "",
        roles: dict[int, str] | None = None,
        amount: int | None = None,
    ) -> dict[str, Any]:
        """A row of alert_candidates with its entries: those of `account` in `seqs`."""
        by_seq = {event.seq: event for event in self.transactions()}
        entries = [
            {
                "ledger": LEDGER,
                "seq": seq,
                "entry_no": number,
                "amount": int(entry.amount),
                "currency": "USD",
                "role": (roles or {}).get(seq, "evidence"),
                "last_seq": seq,
            }
            for seq in seqs
            for number, entry in enumerate(by_seq[seq].entries)
            if entry.account == account
        ]
        episode = f"{LEDGER}/{min(seqs)}"
        days = [dt.date.fromisoformat(by_seq[seq].effective_date) for seq in seqs]
        return {
            "candidate_id": hashlib.sha256(f"{rule}{subject}{episode}".encode()).hexdigest(),
            "rule": rule,
            "rule_version": 1,
            "parameters_hash": "9f3c21d0aa41",
            "ledger": LEDGER,
            "subject": subject,
            "subject_kind": "party" if subject.startswith("pty_") else "account",
            "episode": episode,
            "window_start": min(days),
            "window_end": max(days),
            "score": 0.5 + len(seqs) / 10,
            "amount": sum(entry["amount"] for entry in entries) if amount is None else amount,
            "currency": "USD",
            "exponent": 2,
            "entry_count": len(entries),
            "why": why or f"{len(entries)} entries of {rule}.",
            "last_seq": max(seqs),
            "entries": entries,
        }

    def candidates(self) -> list[dict[str, Any]]:
        """What the rules would say of the planted traffic."""
        wire_in, wire_out = self.seqs("wire_in")[0], self.seqs("wire_out")[0]
        return [
            self.candidate(
                "structuring",
                self.seqs("cash_deposit"),
                subject=OWNERS[3],
                account=wallet(3),
                why="4 cash deposits of 9,600.00 to 9,640.00 USD within 5 days, each below 10,000.00, "
                f"together 38,480.00. {CANARY}",
            ),
            self.candidate(
                "fan_in",
                self.seqs("transfer"),
                subject=wallet(9),
                account=wallet(9),
                why="7 senders paid into one account within 2 days; 6 of them for the first time.",
            ),
            self.candidate(
                "rapid_movement",
                [wire_in, wire_out],
                subject=OWNERS[10],
                account=wallet(10),
                roles={wire_in: "in", wire_out: "out"},
                amount=1_800_000,
                why="99.4 % of 18,000.00 USD left within 48 hours of coming in.",
            ),
        ]

    def publish(
        self, candidates: list[dict[str, Any]] | None = None, *, restricted: bool = True
    ) -> None:
        """Publish the next version of both snapshots, and the pipelines' progress."""
        self.version += 1
        candidates = self.candidates() if candidates is None else candidates
        with duckdb.connect() as database:
            self._general(database)
            self._write(database, "general", GENERAL)
            _candidate_tables(database, candidates)
            if restricted:
                self._write(
                    database, "restricted", ("alert_candidates", "alert_candidate_entries", "build")
                )
        seq = len(self.journal)
        progress = snapshots.Progress(
            landed={LEDGER: seq, "statements": 90, "alert_decisions": 4},
            published={LEDGER: seq, "statements": 90},
            quarantined=0,
            updated_at=_time(FIRST_DAY),
        )
        snapshots.write_atomically(self.folder / "progress.json", msgspec.json.encode(progress))

    def _write(
        self, database: duckdb.DuckDBPyConnection, name: str, marts: tuple[str, ...]
    ) -> None:
        parts = {}
        (self.folder / name / "parts").mkdir(parents=True, exist_ok=True)
        for mart in marts:
            path = f"parts/{mart}-{self.version:06d}.parquet"
            database.execute(f"copy {mart} to '{self.folder / name / path}' (format parquet)")
            rows = database.execute(f"select count(*) from {mart}").fetchone()[0]
            parts[mart] = [snapshots.Part(path, rows, f"{self.version}")]
        checks = [
            snapshots.CheckResult(
                "marts_equal_ledger", passed=True, blocking=True, detail="12 GL codes, to the cent"
            ),
            snapshots.CheckResult("entries_balance", passed=True, blocking=True),
        ]
        manifest = snapshots.Manifest(
            name,
            self.version,
            _time(FIRST_DAY),
            {LEDGER: len(self.journal), "statements": 90},
            parts,
            checks,
            "0.1.0",
        )
        file = f"{self.version:08d}.json"
        snapshots.write_atomically(
            self.folder / name / "manifests" / file, msgspec.json.encode(manifest)
        )
        snapshots.write_atomically(self.folder / name / "CURRENT", file.encode())

    def _general(self, database: duckdb.DuckDBPyConnection) -> None:
        accounts = [event for event in self.journal if isinstance(event, events.AccountOpened)]
        raw = {
            "raw_accounts": [
                {name: getattr(event, name) for name in _ACCOUNT_FIELDS} for event in accounts
            ],
            "raw_transactions": [
                {
                    "seq": event.seq,
                    "kind": event.kind,
                    "channel": event.context.channel,
                    "effective_at": dt.datetime.fromisoformat(event.effective_at).replace(
                        tzinfo=None
                    ),
                    "day": dt.date.fromisoformat(event.effective_date),
                    "reference": event.context.rail_reference,
                    "counterparty": event.context.counterparty,
                    "reverses": event.reverses,
                    "entry_count": len(event.entries),
                }
                for event in self.transactions()
            ],
            "raw_entries": [
                {
                    "seq": event.seq,
                    "entry_no": number,
                    "account": entry.account,
                    "side": entry.side,
                    "amount": int(entry.amount),
                }
                for event in self.transactions()
                for number, entry in enumerate(event.entries)
            ],
        }
        for name, rows in raw.items():
            database.register(name, pa.Table.from_pylist(rows))
        for statement in (Path(__file__).parent / "monitoring_house.sql").read_text().split(";"):
            if statement.strip():
                database.execute(statement.replace("CANARY", CANARY.replace("'", "''")))


_ACCOUNT_FIELDS = (
    "account",
    "account_class",
    "normal_side",
    "custodial",
    "gl_code",
    "owner",
    "seq",
)
GENERAL = (
    *("accounts", "transactions", "entries", "build"),
    *("account_balances_daily", "account_balances_current", "trial_balance_daily"),
    *("statement_lines", "reconciliation_breaks", "reconciliation_days"),
)


def _candidate_tables(
    database: duckdb.DuckDBPyConnection, candidates: list[dict[str, Any]]
) -> None:
    database.execute(
        """
        create table alert_candidates (
          candidate_id text, rule text, rule_version integer, parameters_hash text, ledger text,
          subject text, subject_kind text, episode text, window_start date,
          window_end date, score decimal(9,4), amount decimal(38,0), currency text,
          exponent integer, entry_count integer, why text, last_seq bigint)
        """
    )
    database.execute(
        """
        create table alert_candidate_entries (
          candidate_id text, ledger text, seq bigint, entry_no integer, amount bigint,
          currency text, role text, last_seq bigint)
        """
    )
    for candidate in candidates:
        row = [value for name, value in candidate.items() if name != "entries"]
        database.execute(f"insert into alert_candidates values ({', '.join('?' * len(row))})", row)
        for entry in candidate["entries"]:
            database.execute(
                "insert into alert_candidate_entries values (?, ?, ?, ?, ?, ?, ?, ?)",
                [candidate["candidate_id"], *entry.values()],
            )


def _time(day: dt.date, hour: int = 12, minute: int = 0) -> str:
    return events.timestamp(dt.datetime(day.year, day.month, day.day, hour, minute, tzinfo=dt.UTC))
