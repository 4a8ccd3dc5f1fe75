"""Published snapshots of the marts: the only tables that others may read.

A snapshot is a manifest over immutable Parquet parts; `CURRENT` names the newest and is switched by
an atomic rename, so a reader never sees half. `general` is for analysts; `restricted` holds what
only compliance may see (alert candidates). Each has a folder, and so a grant, of its own:

    <snapshots>/<name>/CURRENT                      text: the manifest's file name
    <snapshots>/<name>/manifests/00000042.json      a Manifest
    <snapshots>/<name>/parts/<mart>-<hash>.parquet  shared by all manifests that name them
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Literal

import msgspec

SnapshotName = Literal["general", "restricted"]


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


def part_paths(snapshots: Path, manifest: Manifest, mart: str) -> list[Path]:
    """The files of one mart, absolute. Errors: KeyError for a mart that the snapshot does not hold."""
    return [snapshots / manifest.name / part.path for part in manifest.marts[mart]]


def read_progress(snapshots: Path) -> Progress | None:
    """How far the pipelines are; None before their first step."""
    try:
        return msgspec.json.decode((snapshots / "progress.json").read_bytes(), type=Progress)
    except FileNotFoundError:
        return None
