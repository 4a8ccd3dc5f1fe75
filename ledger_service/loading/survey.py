"""The first pass of a load: everything that can be known of a file before anything is posted."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
from collections.abc import Iterable, Sequence
from decimal import Decimal, localcontext

from ledger_service.loading.errors import LoadError
from ledger_service.loading.plan import EXACT, Rejected, Transfer


@dataclasses.dataclass
class Survey:
    """What was found. Sums of Decimals are exact: they are formed under `plan.EXACT`."""

    rows: int = 0
    accepted: int = 0
    accepted_minor: int = 0
    accepted_source: Decimal = Decimal()
    rejected_source: Decimal = Decimal()
    """Of rejected rows, as far as they have amounts."""
    residual: Decimal = Decimal()
    """Minor units that rounding took away (positive) or added, over the accepted rows."""
    first_day: dt.date | None = None
    last_day: dt.date | None = None
    accounts: dict[str, None] = dataclasses.field(default_factory=dict)
    """In the order of their first row."""
    stated: dict[tuple[str, dt.date], str] = dataclasses.field(default_factory=dict)
    """What the last row of an account's day states."""
    rejected: list[Rejected] = dataclasses.field(default_factory=list)

    def add(self, planned: Transfer | Rejected) -> None:
        """Count one row, under `plan.EXACT`."""
        self.rows += 1
        if isinstance(planned, Rejected):
            self.rejected.append(planned)
            self.rejected_source += planned.source_amount or 0
            return
        self.accepted += 1
        self.accepted_minor += planned.amount
        self.accepted_source += planned.source_amount
        self.residual += planned.residual
        day = planned.day
        self.first_day = day if self.first_day is None else min(day, self.first_day)
        self.last_day = day if self.last_day is None else max(day, self.last_day)
        for account in (planned.origin, planned.destination):
            if account is not None:
                self.accounts[account] = None
        for account, text in planned.stated:
            self.stated[account, day] = text


def reasons(rejected: Sequence[Rejected]) -> dict[str, int]:
    """How many rows were rejected for which reason."""
    return dict(sorted(collections.Counter(one.reason for one in rejected).items()))


def survey(planned: Iterable[Transfer | Rejected]) -> Survey:
    """Look at every row. Errors: `not_whole_minor_units`, `no_rows`."""
    found = Survey()
    with localcontext(EXACT):
        for row in planned:
            found.add(row)
    inexact = [one.row for one in found.rejected if one.reason == "not_whole_minor_units"]
    if inexact:
        raise LoadError(
            "not_whole_minor_units",
            f"{len(inexact):,} of {found.rows:,} amounts have no exact cents (the first is in row "
            f"{inexact[0]:,}). Correct the source, or allow rounding in the mapping (rounding: "
            "half_even). Nothing was posted.",
        )
    if not found.accepted:
        why = ", ".join(f"{reason} {count:,}" for reason, count in reasons(found.rejected).items())
        raise LoadError(
            "no_rows",
            f"None of {found.rows:,} rows can be posted ({why or 'the file is empty'}); is this "
            "the right mapping? Nothing was posted.",
        )
    return found
