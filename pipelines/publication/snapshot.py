"""Publication: parts, then the manifest, then the pointer, `general` before `restricted`.

A reader sees the snapshot before or the one after, never half of either: whatever a pointer names
was complete before the pointer was switched.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import msgspec

from ledger_service.contract import failpoints
from ledger_service.contract.events import timestamp
from ledger_service.contract.snapshots import (
    NAMES,
    CheckResult,
    Manifest,
    Part,
    Progress,
    SnapshotName,
    pins,
    read_manifest,
    read_progress,
    remove_unless_held,
    write_atomically,
)
from pipelines.publication.parts import KnownParts, Mart, content_of, write_parts

KEEP = 10
KEEP_S = 120.0
"""Even where many snapshots a minute are published, a reader has this long to open its files."""


class Outcome(msgspec.Struct, frozen=True):
    """A check's result, and whether only readers of `restricted` may see it."""

    check: CheckResult
    restricted: bool = False
    figures: dict[str, int] = {}
    """Numbers that say how near to failing it was."""


def blocked_by(outcomes: Sequence[Outcome]) -> list[str]:
    """Names of the checks that forbid publication."""
    return [o.check.name for o in outcomes if o.check.blocking and not o.check.passed]


def publish(
    connection: duckdb.DuckDBPyConnection,
    snapshots: Path,
    marts: Sequence[Mart],
    outcomes: Sequence[Outcome],
    *,
    code_version: str,
    known: KnownParts,
    names: Sequence[SnapshotName] = NAMES,
) -> dict[SnapshotName, Manifest]:
    """Publish the marts as they stand in the warehouse; gives the new manifests.

    `known` is of this warehouse. Both snapshots count their versions together. The caller has
    looked at `blocked_by`, and names `restricted` alone only where its marts were built from what
    `general` shows. Errors: `MartTypeError`; then all pointers stay.
    """
    as_of = read_as_of(connection)
    version = 1 + max((newest_version(snapshots / name) for name in NAMES), default=0)
    manifests: dict[SnapshotName, Manifest] = {}
    for name in names:
        folder = snapshots / name
        manifests[name] = Manifest(
            name=name,
            version=version,
            created_at=timestamp(dt.datetime.now(dt.UTC)),
            as_of=as_of,
            marts={
                mart.name: write_parts(connection, mart, folder, known)
                for mart in marts
                if mart.snapshot == name
            },
            checks=[o.check for o in outcomes if name == "restricted" or not o.restricted],
            code_version=code_version,
            grain={m.name: list(m.grain) for m in marts if m.snapshot == name},
        )
    for name in names:
        _switch(snapshots / name, manifests[name])
    for name in names:
        prune(snapshots, name)
    return manifests


def read_as_of(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """`seq` per ledger and stream that the marts hold, from mart `build`."""
    rows = connection.execute("select ledger_or_stream, as_of_seq from marts.build order by 1")
    return {str(name): int(seq) for name, seq in rows.fetchall()}


def newest_version(folder: Path) -> int:
    """The highest version ever written here, published or not."""
    return max((int(path.stem) for path in (folder / "manifests").glob("[0-9]*.json")), default=0)


def _switch(folder: Path, manifest: Manifest) -> None:
    file_name = f"{manifest.version:08d}.json"
    failpoints.reach("snapshot.before_manifest")
    write_atomically(folder / "manifests" / file_name, msgspec.json.encode(manifest))
    failpoints.reach("snapshot.before_pointer")
    write_atomically(folder / "CURRENT", file_name.encode())
    failpoints.reach("snapshot.after_pointer")


def prune(snapshots: Path, name: SnapshotName) -> int:
    """Remove the manifests that nothing keeps, and files that none names; gives files removed.

    Kept are the last KEEP, those of the last KEEP_S seconds, what a citation pins and what a reader
    holds.
    """
    failpoints.reach("prune.before_manifests")
    folder = snapshots / name
    manifests = sorted((folder / "manifests").glob("[0-9]*.json"))
    recent = time.time() - KEEP_S
    cited = {(folder / "CURRENT").read_text().strip()}
    cited |= {f"{version:08d}.json" for version in pins(snapshots, name).values()}
    removed = [
        path
        for path in manifests[:-KEEP]
        if path.stat().st_mtime < recent and path.name not in cited and remove_unless_held(path)
    ]
    failpoints.reach("prune.before_parts")
    kept = [path for path in manifests if path not in removed]
    named: set[str] = set()
    for path in kept:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
        named.update(part.path for parts in manifest.marts.values() for part in parts)
    stray = [p for p in (folder / "parts").glob("*") if f"parts/{p.name}" not in named]
    # drafts of a publisher that was killed: there is one at a time
    for place, draft in ((snapshots, ".progress.json.*"), (folder, ".CURRENT.*")):
        stray += place.glob(draft)
    stray += (folder / "manifests").glob(".*")
    for path in stray:
        path.unlink()
    failpoints.reach("prune.after")
    return len(removed) + len(stray)


def write_progress(
    snapshots: Path, landed: Mapping[str, int], quarantined: int, blocked: Sequence[str] | None
) -> Progress:
    """Say how far the pipelines are. `blocked` None: as it was."""
    published = read_manifest(snapshots, "general")
    before = read_progress(snapshots)
    progress = Progress(
        landed=dict(landed),
        published=published.as_of if published else {},
        quarantined=quarantined,
        updated_at=timestamp(dt.datetime.now(dt.UTC)),
        blocked_by=list(blocked) if blocked is not None else before.blocked_by if before else [],
    )
    write_atomically(snapshots / "progress.json", msgspec.json.encode(progress))
    return progress


class SnapshotDamagedError(RuntimeError):
    """A published snapshot does not hold what its manifest says; the message names each part."""


def verify(snapshots: Path, manifest: Manifest) -> int:
    """Read every part and compare it with the manifest; gives the number of parts.

    Errors: `SnapshotDamagedError`.
    """
    wrong = [
        f"{part.path}: {problem}"
        for parts in manifest.marts.values()
        for part in parts
        if (problem := _problem(snapshots / manifest.name / part.path, part))
    ]
    if wrong:
        raise SnapshotDamagedError(
            f"Snapshot {manifest.name} {manifest.version} is damaged: {'; '.join(wrong)}. Publish "
            "again with `tally pipeline run-once`."
        )
    return sum(len(parts) for parts in manifest.marts.values())


def _problem(file: Path, part: Part) -> str | None:
    with duckdb.connect(":memory:") as connection:
        quoted = str(file).replace("'", "''")
        try:
            rows, content_hash = content_of(connection, f"read_parquet('{quoted}')")
        except duckdb.Error as failure:
            return f"can't be read ({type(failure).__name__})"
    if rows != part.rows:
        return f"holds {rows} rows, not {part.rows}"
    return None if content_hash == part.content_hash else "holds other rows"
