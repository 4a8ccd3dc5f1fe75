"""The daily FBO reconciliation: bank = ledger's cash = customers + in transit, from the snapshot.

A report is built from the *published* general snapshot, so it says what every other reader sees. It
is built again only when what it says has changed; equal input gives equal bytes. `index.json` beside
the files holds their SHA-256, so that a copy can be compared.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from ledger_service.contract.snapshots import (
    Manifest,
    part_paths,
    pin,
    read_manifest,
    write_atomically,
)
from pipelines.ledger_api import Checkpoint, LedgerApi
from pipelines.places import Places
from pipelines.reports.fbo_documents import as_csv, as_pdf

_DAYS = """
    select ledger, account, bank, statement_account, statement_date, currency, bank_closing,
        ledger_closing, customers, in_transit, difference_bank_ledger,
        difference_ledger_customers, explained_difference, open_breaks, status
    from days where customers is not null
    order by ledger, statement_date, statement_account
"""
_BREAKS = """
    select break_id, ledger, account, bank, kind, opened_date, currency, bank_amount,
        ledger_amount, difference, statement, line_no, seq, reference, explanation
    from breaks where kind <> 'timing'
    order by opened_date, kind, break_id
"""


@dataclasses.dataclass(frozen=True)
class FboDay:
    """What one report says: the accounts' lines of a day, and the breaks that stand on it."""

    ledger: str
    day: dt.date
    accounts: list[dict[str, Any]]
    breaks: list[dict[str, Any]]

    @property
    def content_hash(self) -> str:
        """Of what the report says about the day."""
        content = msgspec.json.encode([self.accounts, self.breaks], order="deterministic")
        return hashlib.sha256(content).hexdigest()


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a report's figures come from."""

    snapshot_version: int
    as_of_seq: int
    code_version: str
    checkpoint: Checkpoint | None


class IndexEntry(msgspec.Struct, frozen=True):
    """One day's files."""

    csv_sha256: str
    pdf_sha256: str
    content_hash: str
    snapshot_version: int
    as_of_seq: int


Index = dict[str, IndexEntry]
"""By ISO date."""


def unexplained(day: FboDay) -> int:
    """What stands between bank and ledger and no item explains: minor units of all accounts, unsigned."""
    return sum(
        abs(int(line["difference_bank_ledger"] - line["explained_difference"]))
        for line in day.accounts
    )


class NothingPublishedError(LookupError):
    """There is no snapshot to report from."""


def read_days(places: Places) -> tuple[Manifest, list[FboDay]]:
    """Every day of every FBO account in the published snapshot. Errors: `NothingPublishedError`."""
    manifest = read_manifest(places.snapshots, "general")
    if manifest is None:
        raise NothingPublishedError("Nothing is published yet: run `tally pipeline run-once`.")
    days = _rows(places.snapshots, manifest, "reconciliation_days", "days", _DAYS)
    breaks = _rows(places.snapshots, manifest, "reconciliation_breaks", "breaks", _BREAKS)
    return manifest, list(_by_day(days, breaks))


def _rows(
    snapshots: Path, manifest: Manifest, mart: str, name: str, query: str
) -> list[dict[str, Any]]:
    files = [str(path) for path in part_paths(snapshots, manifest, mart)]
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"create view {name} as select * from read_parquet({files!r})")
        cursor = connection.execute(query)
        columns = [column[0] for column in cursor.description or []]
        return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]


def _by_day(days: list[dict[str, Any]], breaks: list[dict[str, Any]]) -> Iterator[FboDay]:
    keys = sorted({(line["ledger"], line["statement_date"]) for line in days})
    for ledger, day in keys:
        accounts = [d for d in days if (d["ledger"], d["statement_date"]) == (ledger, day)]
        names = {line["account"] for line in accounts}
        standing = [
            one
            for one in breaks
            if one["ledger"] == ledger and one["account"] in names and one["opened_date"] <= day
        ]
        yield FboDay(ledger, day, accounts, standing)


def read_index(places: Places, ledger: str) -> Index:
    """The files of a ledger; empty where there are none."""
    try:
        content = (places.reports / "fbo" / ledger / "index.json").read_bytes()
    except FileNotFoundError:
        return {}
    return msgspec.json.decode(content, type=Index)


def outdated(places: Places, days: list[FboDay]) -> list[FboDay]:
    """The days that have no report, or one that says something else."""
    indexes = {ledger: read_index(places, ledger) for ledger in {day.ledger for day in days}}
    return [
        day
        for day in days
        if (entry := indexes[day.ledger].get(day.day.isoformat())) is None
        or entry.content_hash != day.content_hash
    ]


def write_reports(
    places: Places, manifest: Manifest, days: list[FboDay], api: LedgerApi
) -> list[Path]:
    """Write CSV and PDF of each day, then the indexes; gives the files.

    The snapshot that a report cites is kept as long as the report cites it. Errors:
    `httpx.HTTPError` where the ledger's checkpoint can't be had, `NotPublishedError` where the
    snapshot is not kept any more; then nothing is written.
    """
    checkpoints = {name: api.latest_checkpoint(name) for name in {day.ledger for day in days}}
    indexes = {ledger: read_index(places, ledger) for ledger in checkpoints}
    for day in days:
        pin(places.snapshots, manifest, f"fbo.{day.ledger}.{day.day.isoformat()}")
    files: list[Path] = []
    for day in days:
        as_of_seq = manifest.as_of[day.ledger]
        origin = Origin(manifest.version, as_of_seq, manifest.code_version, checkpoints[day.ledger])
        folder = places.reports / "fbo" / day.ledger
        csv, pdf = as_csv(day, origin), as_pdf(day, origin)
        for kind, content in (("csv", csv), ("pdf", pdf)):
            files.append(folder / f"{day.day.isoformat()}.{kind}")
            write_atomically(files[-1], content)
        indexes[day.ledger][day.day.isoformat()] = IndexEntry(
            csv_sha256=hashlib.sha256(csv).hexdigest(),
            pdf_sha256=hashlib.sha256(pdf).hexdigest(),
            content_hash=day.content_hash,
            snapshot_version=manifest.version,
            as_of_seq=as_of_seq,
        )
    for ledger, index in indexes.items():
        content = msgspec.json.format(msgspec.json.encode(dict(sorted(index.items()))))
        write_atomically(places.reports / "fbo" / ledger / "index.json", content)
    return files


class MissingReports:
    """Builds what is missing, a few at a time; does not look again before the next snapshot."""

    def __init__(self, places: Places, api: LedgerApi) -> None:
        self._places = places
        self._api = api
        self._complete_at: int | None = None
        """Version of the snapshot at which nothing was missing."""

    def build_some(self, limit: int) -> int:
        """Build up to `limit` days; gives their number. Errors as `write_reports`."""
        current = read_manifest(self._places.snapshots, "general")
        if current is None or current.version == self._complete_at:
            return 0
        manifest, days = read_days(self._places)
        missing = outdated(self._places, days)
        if missing:
            write_reports(self._places, manifest, missing[:limit], self._api)
        if len(missing) <= limit:
            self._complete_at = manifest.version
        return min(len(missing), limit)
