"""A small warehouse for dbt: facts written by hand, landed as Parquet, built in this process.

`Facts` is what a pipeline would have read from the topics: rows of the typed landing's tables.
`Warehouse` lands them as Parquet with views over them, as the pipelines do, and runs dbt.
"""

from __future__ import annotations

import datetime as dt
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from pipelines.ingestion.tables import TABLES
from pipelines.warehouse.dbt import PROJECT, QUIET, UNCHANGING

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

LANDING = {
    table.name: ", ".join(f"{name} {kind}" for name, kind in table.columns) for table in TABLES
}
CLASSES = {
    "bank:fbo": ("asset", "debit", True, "1010"),
    "bank:operating": ("asset", "debit", False, "1020"),
    "clearing": ("liability", "credit", True, "2110"),
    "customer": ("liability", "credit", True, "2010"),
    "income": ("income", "credit", False, "4010"),
    "receivable": ("asset", "debit", False, "1310"),
}
Row = dict[str, Any]
Leg = tuple[str, str, int]


class Facts:
    """Rows of the landing's tables, in the order of the ledger `books` and of two streams."""

    def __init__(self, ledger: str = "books", currency: str = "USD") -> None:
        self.ledger, self.currency = ledger, currency
        self.rows: dict[str, list[Row]] = {table: [] for table in LANDING}
        self.seq = 0
        self.stream_seq = 0
        self._append("ledgers", currencies=[currency], time_zone="UTC", cut_off="17:00",
                     calendar="us_federal_reserve", chart="us_fintech_fbo/1")  # fmt: skip

    def _append(self, table: str, **values: Any) -> int:
        self.seq += 1
        recorded_at = dt.datetime(2026, 1, 1) + dt.timedelta(seconds=self.seq)
        self.rows[table].append(
            {"ledger": self.ledger, "seq": self.seq, "recorded_at": recorded_at} | values
        )
        return self.seq

    def _stream(self, stream: str, table: str, **values: Any) -> int:
        self.stream_seq += 1
        recorded_at = dt.datetime(2026, 1, 1) + dt.timedelta(seconds=self.stream_seq)
        self.rows[table].append(
            {"stream": stream, "seq": self.stream_seq, "recorded_at": recorded_at} | values
        )
        return self.stream_seq

    def declare_currency(self, currency: str, exponent: int) -> None:
        """Declare a currency of the ledger's own; what is opened from here on is kept in it."""
        self._append("currencies", currency=currency, exponent=exponent)
        self.currency = currency

    def account(self, account: str, owner: str | None = None) -> str:
        """Open an account of the default chart."""
        key = account if account in CLASSES else account.split(":", maxsplit=1)[0]
        account_class, normal_side, custodial, gl_code = CLASSES[key]
        self._append(
            "accounts", event_type="account.opened", account=account, currency=self.currency,
            account_class=account_class, normal_side=normal_side, custodial=custodial,
            gl_code=gl_code, owner=owner, status="open",
        )  # fmt: skip
        return account

    def post(self, moment: dt.datetime | dt.date, legs: list[Leg], **values: Any) -> int:
        """Post a transaction of legs (account, side, amount) and give its `seq`."""
        if not isinstance(moment, dt.datetime):
            moment = dt.datetime.combine(moment, dt.time(12))
        day = moment.date()
        defaults = {
            "effective_at": moment, "effective_date": day, "business_date": day,
            "kind": "transfer", "channel": "internal", "imposed": False, "actor": "key_1",
            "entry_count": len(legs), "metadata": [],
        }  # fmt: skip
        seq = self._append("transactions", **(defaults | values))
        self.rows["entries"] += [
            {"ledger": self.ledger, "seq": seq, "entry_no": number, "account": account,
             "side": side, "amount": amount, "currency": self.currency}
            for number, (account, side, amount) in enumerate(legs)
        ]  # fmt: skip
        return seq

    def receive(self, moment: dt.datetime | dt.date, to: str, amount: int, **values: Any) -> int:
        """Money from outside to a customer, through the FBO account."""
        return self.post(moment, [("bank:fbo", "debit", amount), (to, "credit", amount)], **values)

    def pay_out(self, moment: dt.datetime | dt.date, by: str, amount: int, **values: Any) -> int:
        """Money from a customer to outside, through the FBO account."""
        return self.post(moment, [(by, "debit", amount), ("bank:fbo", "credit", amount)], **values)

    def transfer(
        self, moment: dt.datetime | dt.date, by: str, to: str, amount: int, **values: Any
    ) -> int:
        """Money from customer to customer."""
        return self.post(moment, [(by, "debit", amount), (to, "credit", amount)], **values)

    def reverse(self, moment: dt.datetime | dt.date, seq: int, amount: int | None = None) -> int:
        """Swap the entries of a transaction, in full or for `amount`."""
        legs = [
            (
                row["account"],
                "credit" if row["side"] == "debit" else "debit",
                amount or row["amount"],
            )
            for row in self.rows["entries"]
            if row["seq"] == seq
        ]
        return self.post(moment, legs, kind="reversal", reverses_seq=seq)

    def hold(self, moment: dt.datetime | None, legs: list[Leg], **values: Any) -> int:
        """Set legs aside until `moment`, or for ever."""
        defaults = {"event_type": "hold.placed", "hold_seq": self.seq + 1, "expires_at": moment,
                    "kind": "card_purchase", "channel": "card"}  # fmt: skip
        seq = self._append("holds", **(defaults | values))
        self._hold_entries(seq, legs)
        return seq

    def capture(
        self, moment: dt.datetime, hold: int, legs: list[Leg], *, ends: bool, **values: Any
    ) -> int:
        """Post legs of a hold; `ends`: what they leave is released."""
        return self.post(
            moment, legs, kind="card_purchase", captures_seq=hold, ends_hold=ends, **values
        )

    def release(self, hold: int, left: list[Leg], cause: str) -> int:
        """Give back what is left of a hold."""
        reason = "cancelled" if cause == "voided" else None
        seq = self._append("holds", event_type="hold.released", hold_seq=hold, cause=cause,
                           reason=reason)  # fmt: skip
        self._hold_entries(seq, left)
        return seq

    def _hold_entries(self, seq: int, legs: list[Leg]) -> None:
        self.rows["hold_entries"] += [
            {"ledger": self.ledger, "seq": seq, "entry_no": number, "account": account,
             "side": side, "amount": amount, "currency": self.currency}
            for number, (account, side, amount) in enumerate(legs)
        ]  # fmt: skip

    def since(self) -> Callable[[], dict[str, list[Row]]]:
        """What gives the rows that came after now."""
        before = {table: len(rows) for table, rows in self.rows.items()}
        return lambda: {table: rows[before[table] :] for table, rows in self.rows.items()}

    def period(self, event_type: str, day: dt.date, **values: Any) -> int:
        """Close, reopen or attest."""
        return self._append("periods", event_type=event_type, day=day, **values)

    def register(self, party: str, **values: Any) -> int:
        """A party, or its next version."""
        defaults = {"kind": "person", "country": "US", "risk_tier": "low", "erased": False}
        version = 1 + sum(row["party"] == party for row in self.rows["parties"])
        return self._stream(
            "parties", "parties", party=party, version=version, **(defaults | values)
        )

    def statement_account(
        self, account: str, purpose: str = "fbo", rounded: int = 0, token: str | None = None
    ) -> str:
        """Register a bank's account to be compared with `account`."""
        token = token or f"at_bank_{account}"
        self._stream(
            "statements", "statement_accounts", statement_account=token, ledger=self.ledger,
            account=account, bank="first_bank", purpose=purpose,
            rounded_half_minor_per_entry=rounded,
        )  # fmt: skip
        return token

    def statement(
        self,
        token: str,
        day: dt.date,
        closing: int,
        lines: list[tuple[int, str | None]] = [],  # noqa: B006
        name: str | None = None,
    ) -> str:
        """A bank's day: lines are (signed amount, reference); money in is positive."""
        name = name or f"{token}_{day}"
        self._stream(
            "statements", "statements", statement=name, statement_account=token, bank="first_bank",
            statement_date=day, currency=self.currency, opening_balance=None,
            closing_balance=closing, line_count=len(lines), format="bai2",
        )  # fmt: skip
        for number, (amount, reference) in enumerate(lines, start=1):
            self._stream(
                "statements", "statement_lines", statement=name, statement_account=token,
                line_no=number, statement_date=day, value_date=day,
                side="credit" if amount > 0 else "debit", amount=abs(amount),
                currency=self.currency, reference=reference, bank_code="165",
            )  # fmt: skip
        return name


def merged(parts: list[Facts]) -> dict[str, list[Row]]:
    """The rows of all of them, by table."""
    return {table: [row for part in parts for row in part.rows[table]] for table in LANDING}


def make_typed(connection: duckdb.DuckDBPyConnection, table: str, rows: list[Row]) -> None:
    """Make `typed`, a table of these rows with the columns and types of a table of the landing."""
    connection.execute(f"create or replace temp table typed ({LANDING[table]})")
    names = connection.execute("select column_name from (describe typed)").fetchall()
    if rows:
        arrow = pa.table({name: [row.get(name) for row in rows] for (name,) in names})
        connection.register("arrived", arrow)
        picked = ", ".join("map()" if name == "metadata" else name for (name,) in names)
        connection.execute(f"insert into typed select {picked} from arrived")


@functools.cache
def _parsed(stem: str) -> Manifest:
    """The project, parsed once a process (`stem` names the database in it)."""
    result = _runner().invoke(["parse", "--quiet", *_folders()])
    assert result.success, f"dbt can't parse {stem}: {result.exception}"
    return result.result


def _runner(manifest: Manifest | None = None) -> Any:
    # Imported late: it takes seconds, which a process that only collects these tests can spare.
    from dbt.cli.main import dbtRunner

    return dbtRunner(manifest=manifest)


def _folders() -> list[str]:
    target = Path(os.environ["TALLYSTICK_WAREHOUSE_FILE"]).parent / "target"
    return [
        "--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT),
        "--target-path", str(target), "--log-path", str(target / "logs"),
    ]  # fmt: skip


class Warehouse:
    """A DuckDB file with landing views over Parquet, and dbt on it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "tallystick.duckdb"
        self.landing = folder / "landing"
        os.environ["TALLYSTICK_WAREHOUSE_FILE"] = str(self.file)
        self.manifest = _parsed(self.file.stem)
        self.begun = False

    def land(self, rows: dict[str, list[Row]]) -> None:
        """Add one Parquet file per table and make the views over all of them."""
        with duckdb.connect(str(self.file)) as connection:
            connection.execute("create schema if not exists landing")
            for table in LANDING:
                folder = self.landing / table
                folder.mkdir(parents=True, exist_ok=True)
                number = len(list(folder.iterdir()))
                make_typed(connection, table, rows.get(table, []))
                connection.execute(f"copy typed to '{folder}/{number:06}.parquet'")
                connection.execute(
                    f"create or replace view landing.{table} as"
                    f" select * from read_parquet('{folder}/*.parquet')"
                )

    def dbt(self, command: str, *arguments: str) -> None:
        """Run a dbt command; every error stops the test with its text."""
        os.environ["TALLYSTICK_WAREHOUSE_FILE"] = str(self.file)
        result = _runner(self.manifest).invoke(
            [command, *QUIET, "--no-use-colors", "--no-write-json", *_folders(), *arguments]
        )
        if not result.success:
            problems = [
                f"{each.node.name}: {each.status} {each.message}"
                for each in getattr(result.result, "results", [])
                if each.status not in {"success", "pass", "skipped"}
            ]
            raise AssertionError("\n".join(problems) or repr(result.exception))

    def build(self, facts: Facts | dict[str, list[Row]]) -> None:
        """Land what is given and run every model; from the second time on only what can change."""
        self.land(facts.rows if isinstance(facts, Facts) else facts)
        if not self.begun:
            self.dbt("seed")
        self.dbt("run", *(("--exclude", *UNCHANGING) if self.begun else ()))
        self.begun = True

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Read with SQL."""
        with duckdb.connect(str(self.file)) as connection:
            return connection.execute(query).fetchall()

    def table(self, name: str) -> list[tuple[Any, ...]]:
        """All rows of a table in order, for comparing two warehouses."""
        return self.rows(f"select * from {name} order by all")
