"""Retention: raw files that nobody reads any more are moved to a cheaper place, by the manifest.

A raw file is read again only to be typed anew, so it may go when its events are typed, none of them
waits in quarantine, and the ledger has signed a checkpoint over all of them. It is never dropped:
the archive holds it under the same path, and whoever needs it is given it from there.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ledger_service.contract import failpoints
from pipelines.ingestion.manifest import DataFile, LandedSource, Landing


def archive(landing: Landing, proven: Mapping[str, int], keep: int) -> dict[str, int]:
    """Move old raw files; gives the number of files by source.

    `proven` is, by ledger, the size of its last checkpoint; a source that is not named there stays,
    and of every other the last `keep` events do. Errors: `FileNotFoundError` where no archive is
    set, `LandingTakenError`.
    """
    manifest = landing.read()
    moved: dict[str, int] = {}
    for name, size in sorted(proven.items()):
        source = manifest.sources.get(name)
        old = _old_files(source, min(size, source.seq - keep)) if source else []
        if source is None or not old:
            continue
        archived = {file.path: landing.move_to_archive(file) for file in old}
        raw = [archived.get(file.path, file) for file in source.raw]
        manifest = landing.commit(
            manifest.with_source(name, msgspec.structs.replace(source, raw=raw))
        )
        failpoints.reach("archive.after_commit")
        moved[name] = len(old)
    landing.sweep()
    return moved


def _old_files(source: LandedSource, through: int) -> list[DataFile]:
    waiting = min((file.first_seq for file in source.quarantine if file.first_seq), default=None)
    last = min(through, source.typed_seq, *([] if waiting is None else [waiting - 1]))
    return [file for file in source.raw if not file.archived and file.last_seq <= last]
