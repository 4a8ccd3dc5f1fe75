"""What verification says: findings, each with the table, the row and what is done about it."""

from __future__ import annotations

import base64
from typing import Any, Literal

import msgspec

from ledger_service.engine.fold import Fold

MAX_FINDINGS = 100
Row = dict[str, Any]
Connection = Any
"""A psycopg connection whose rows are dicts."""

Remedy = Literal["stop", "rebuild", "look"]
"""`stop`: the writer decides by this table, so the ledger stops until people have looked.
`rebuild`: only readers use it, so it is made anew from the journal while writing goes on.
`look`: it says something is wrong beside the ledger; an alarm."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not as it must be. `seq` is that of an event, where one is to blame."""

    table: str
    ledger: str
    seq: int | None
    code: str
    message: str
    row: str = ""
    """What names the row: an account, a size, an id."""
    remedy: Remedy = "look"


class Report(msgspec.Struct):
    """What was looked at, and what was found."""

    ledgers: dict[str, int] = {}
    """`seq` up to which each was verified."""
    tables: list[str] = []
    full: bool = False
    findings: list[Finding] = []
    remedies: dict[str, Remedy] = {}
    """By table, for what is found from here on."""

    def add(
        self,
        table: str,
        ledger: str,
        code: str,
        message: str,
        *,
        seq: int | None = None,
        row: str = "",
    ) -> None:
        """Note a finding; after the first hundred only the first in each table of a ledger counts,
        for what is to be done about it.
        """
        if len(self.findings) < MAX_FINDINGS or not any(
            (known.table, known.ledger) == (table, ledger) for known in self.findings
        ):
            remedy = self.remedies.get(table, "look")
            self.findings.append(Finding(table, ledger, seq, code, message, row, remedy))

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def is_ledger_sound(self, ledger: str) -> bool:
        """Whether nothing was found in one ledger."""
        return not any(finding.ledger == ledger for finding in self.findings)


class Keys(msgspec.Struct, frozen=True):
    """Public keys that signatures are checked with; without one they are not."""

    log: bytes | None = None
    witness: bytes | None = None

    @classmethod
    def from_text(cls, log: str, witness: str) -> Keys:
        """From base64; an empty text is no key."""
        decoded = [base64.b64decode(text) if text else None for text in (log, witness)]
        return cls(*decoded)


class Scope(msgspec.Struct):
    """One ledger under verification, in one snapshot."""

    connection: Connection
    report: Report
    keys: Keys
    ledger: str
    head: Row
    """The ledger's row of ledger.head."""
    after: int
    """`seq` that was verified before; 0 in a full run."""
    followed: int
    """`seq` at which the history stands."""
    followed_before: int
    """... and stood when that was verified before; 0 in a full run."""
    fold: Fold = msgspec.field(default_factory=Fold)

    def add(
        self, table: str, code: str, message: str, *, seq: int | None = None, row: str = ""
    ) -> None:
        """Note a finding in this ledger."""
        self.report.add(table, self.ledger, code, message, seq=seq, row=row)

    @property
    def parameters(self) -> Row:
        """What the SQL of checks may name: ledger, after, seq, followed, followed_before."""
        return {
            "ledger": self.ledger,
            "after": self.after,
            "seq": self.head["seq"],
            "followed": self.followed,
            "followed_before": self.followed_before,
        }
