"""Published snapshots of the marts: the only tables that others may read.

A snapshot is a manifest over immutable Parquet parts; `CURRENT` names the newest and is switched by
an atomic rename, so a reader never sees half. `general` is for analysts; `restricted` holds what
only compliance may see (alert candidates). Each has a folder, and so a grant, of its own:

    <snapshots>/<name>/CURRENT                      text: the manifest's file name
    <snapshots>/<name>/manifests/00000042.json      a Manifest
    <snapshots>/<name>/parts/<mart>-<hash>.parquet  shared by all manifests that name them
    <snapshots>/<name>/pins/<citation>              text: the manifest's file name; it is kept
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import Generator
from pathlib import Path
from typing import Literal, get_args

import msgspec

from ledger_service.contract import failpoints

SnapshotName = Literal["general", "restricted"]
NAMES: tuple[SnapshotName, ...] = get_args(SnapshotName)
"""In the order in which they are published: `general` is never behind `restricted`, so that whoever
follows an alert to its entries, or asks what reversed them, finds them there."""


class Part(msgspec.Struct, frozen=True):
    """One immutable Parquet file. `content_hash` is of the rows, not of the file."""

    path: str
    """Relative to the snapshot's folder."""
    rows: int
    content_hash: str


class CheckResult(msgspec.Struct, frozen=True):
    """One check that was run before publication."""

    name: str
    passed: bool
    blocking: bool
    detail: str = ""


class Manifest(msgspec.Struct, frozen=True):
    """A snapshot: what it holds, and up to where."""

    name: str
    version: int
    created_at: str
    as_of: dict[str, int]
    """`seq` per ledger and stream: everything up to it is in the marts, nothing after it."""
    marts: dict[str, list[Part]]
    checks: list[CheckResult]
    code_version: str
    grain: dict[str, list[str]] = {}
    """The columns that name a row, per mart; absent from what was published before it was stated."""


class Progress(msgspec.Struct, frozen=True):
    """How far the pipelines are, written after every landing and publication."""

    landed: dict[str, int]
    """`seq` per ledger and stream."""
    published: dict[str, int]
    quarantined: int
    updated_at: str
    blocked_by: list[str] = []
    """Names of blocking checks that failed at the last try; publication stands still while any."""


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` at once and durably: readers see the old content or the new, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # threads write, too
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    failpoints.reach("replace.before_rename")
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name, too, survives a loss of power
    finally:
        os.close(folder)


def read_manifest(
    snapshots: Path, name: SnapshotName, version: int | None = None
) -> Manifest | None:
    """The current manifest, or that of `version`; None where nothing is published yet."""
    folder = snapshots / name
    if version is None:
        try:
            file_name = (folder / "CURRENT").read_text().strip()
        except FileNotFoundError:
            return None
    else:
        file_name = f"{version:08d}.json"
    try:
        return msgspec.json.decode((folder / "manifests" / file_name).read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None


class NotPublishedError(LookupError):
    """There is no such snapshot: nothing is published yet, or the version is not kept any more."""

    code = "not_published"


@contextlib.contextmanager
def held(snapshots: Path, name: SnapshotName, version: int | None = None) -> Generator[Manifest]:
    """The current manifest, or that of `version`; its parts stay as long as the block lasts.

    A shared lock on the manifest says that somebody reads it. It takes no right to write, ends with
    the process, and never makes a publisher wait: it keeps what is held. Errors: `NotPublishedError`.
    """
    while True:
        current = read_manifest(snapshots, name, version)
        if current is None:
            which = "No snapshot" if version is None else f"No version {version}"
            raise NotPublishedError(
                f"{which} of {name} is published: see `tally snapshot list`, or run "
                "`tally pipeline run-once`."
            )
        try:
            file = (snapshots / name / "manifests" / f"{current.version:08d}.json").open("rb")
        except FileNotFoundError:
            continue  # removed since it was read: look again
        with file:
            fcntl.flock(file, fcntl.LOCK_SH)
            if os.fstat(file.fileno()).st_nlink:
                yield current
                return


def remove_unless_held(manifest_file: Path) -> bool:
    """Remove a manifest unless a reader holds it; says whether it did."""
    with manifest_file.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        manifest_file.unlink()  # under the lock: who waits for it finds the file gone
    return True


class BadCitationError(ValueError):
    """A citation is a file's name."""

    code = "bad_citation"


def _pin_file(folder: Path, citation: str) -> Path:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,99}", citation):
        raise BadCitationError(
            f"{citation!r} can't name a citation: use up to 100 of a-z, 0-9, '_', '.', '-'."
        )
    return folder / "pins" / citation


def pin(snapshots: Path, manifest: Manifest, citation: str) -> None:
    """Keep a snapshot because `citation`, e.g. a report, names it; a citation names one at a time.

    Errors: `BadCitationError`; `NotPublishedError` where the snapshot is not kept any more.
    """
    folder = snapshots / manifest.name
    file_name = f"{manifest.version:08d}.json"
    write_atomically(_pin_file(folder, citation), file_name.encode())
    if not (folder / "manifests" / file_name).exists():
        unpin(snapshots, manifest.name, citation)
        raise NotPublishedError(f"{manifest.name} {manifest.version} is not kept any more.")


def unpin(snapshots: Path, name: str, citation: str) -> None:
    """`citation` needs its snapshot no more. Errors: `BadCitationError`."""
    _pin_file(snapshots / name, citation).unlink(missing_ok=True)


def pins(snapshots: Path, name: str) -> dict[str, int]:
    """The version that each citation names."""
    files = (snapshots / name / "pins").glob("[!.]*")
    return {file.name: int(Path(file.read_text()).stem) for file in files}


def part_paths(snapshots: Path, manifest: Manifest, mart: str) -> list[Path]:
    """The files of one mart, absolute. Errors: KeyError for a mart that the snapshot does not hold."""
    return [snapshots / manifest.name / part.path for part in manifest.marts[mart]]


def read_progress(snapshots: Path) -> Progress | None:
    """How far the pipelines are; None before their first step."""
    try:
        return msgspec.json.decode((snapshots / "progress.json").read_bytes(), type=Progress)
    except FileNotFoundError:
        return None
