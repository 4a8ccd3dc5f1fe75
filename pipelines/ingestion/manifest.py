"""The landing's manifest: which files exist, and so how far each source has landed.

Readers never list a folder: a file that the manifest does not name is not there, whether a crash
left it behind or a compaction replaced it. The manifest is replaced in one step, and only by the
process that holds the landing; whoever comes second is told so and has changed nothing.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from ledger_service.contract import failpoints
from pipelines.ingestion.store import ReplacedError, Store, store_at

MANIFEST = "manifest.json"
FOLDERS = ("raw/", "typed/", "quarantine/")


class DataFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """One immutable file and the events it covers."""

    path: str
    first_seq: int
    last_seq: int
    rows: int
    archived: bool = False
    """It lies in the archive, under the same path (`archive`)."""


class LandedSource(msgspec.Struct, frozen=True):
    """How far a ledger or stream has landed; `seq` is the position, the offset only a hint."""

    topic: str
    topic_id: str
    """Offsets mean nothing in a topic with another id: there the reader seeks by `seq`."""
    next_offset: int = 0
    seq: int = 0
    """Everything up to here is in the raw landing."""
    typed_seq: int = 0
    """Everything up to here is in the typed landing or in quarantine."""
    typed_form: str = ""
    """`typed.present_form` of the oldest typed file: older rows lack what was added since."""
    rewritten: int = 0
    """The manifest's version when what had landed was last rewritten, 0 for never: marts built
    before that are built anew, and files written since bear it in their names."""
    raw: list[DataFile] = []
    typed: dict[str, list[DataFile]] = {}
    quarantine: list[DataFile] = []

    def path(self, folder: str, first: int, last: int, suffix: str = "parquet") -> str:
        """The path of a new file in `folder`, by the range of its events.

        The same range has another name after a rewriting, so no name is used twice.
        """
        rewritten = f"-r{self.rewritten}" if self.rewritten else ""
        return f"{folder}/{first:012d}-{last:012d}{rewritten}.{suffix}"


class LandingManifest(msgspec.Struct, frozen=True):
    """All sources by name."""

    version: int = 0
    holder: str = ""
    """Who wrote this version: host, process and a random part."""
    sources: dict[str, LandedSource] = {}

    def with_source(self, name: str, source: LandedSource) -> LandingManifest:
        """A copy with one source replaced or added."""
        return msgspec.structs.replace(self, sources={**self.sources, name: source})

    @property
    def landed(self) -> dict[str, int]:
        """`seq` per source up to which events have landed."""
        return {name: source.seq for name, source in self.sources.items()}

    @property
    def quarantined(self) -> int:
        """Number of events that wait in quarantine."""
        return sum(file.rows for source in self.sources.values() for file in source.quarantine)

    def typed_files(self, table: str) -> list[DataFile]:
        """The files of one typed table, over all sources."""
        return [f for source in self.sources.values() for f in source.typed.get(table, [])]


class LandingTakenError(RuntimeError):
    """Another process writes to the landing: this one has to stop, and has changed nothing."""

    def __init__(self, holder: str) -> None:
        super().__init__(
            f"The landing was taken over by {holder or 'another process'}: two must not land at "
            "once. Stop one of them; what this one had in hand, the other reads from the topics."
        )


class Landing:
    """The landing as one process has it; the archive is where old raw files may be moved to."""

    def __init__(self, store: Store, archive: Store | None = None) -> None:
        self._store = store
        self._archive = archive
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._is_held = False
        self._seen: tuple[LandingManifest, str | None] = (LandingManifest(), None)

    @classmethod
    def at(cls, place: str, cache: Path, archive: str = "") -> Landing:
        """The landing at a place as the settings name it: a directory or `s3://bucket/prefix`."""
        archived = store_at(archive, cache / "archive") if archive else None
        return cls(store_at(place, cache / "landing"), archived)

    def read(self) -> LandingManifest:
        """The current manifest; an empty one before the first landing."""
        found = self._store.read(MANIFEST)
        if found is None:
            self._seen = (LandingManifest(), None)
        else:
            content, mark = found
            self._seen = (msgspec.json.decode(content, type=LandingManifest), mark)
        return self._seen[0]

    def hold(self) -> None:
        """Take the landing over from whoever had it: the next commit of theirs fails.

        Errors: `LandingTakenError` where two try at once.
        """
        self._is_held = False
        self.commit(self.read())

    def commit(self, manifest: LandingManifest) -> LandingManifest:
        """Make `manifest` the current one, under the next version; gives it back.

        The first commit of a process takes the landing over. Errors: `LandingTakenError` where
        another process has it, or has committed since the manifest was read.
        """
        current, mark = self._seen
        if manifest.version != current.version or self._is_taken(current):
            raise LandingTakenError(current.holder)
        numbered = msgspec.structs.replace(
            manifest, version=manifest.version + 1, holder=self._holder
        )
        try:
            mark = self._store.replace(MANIFEST, msgspec.json.encode(numbered), mark)
        except ReplacedError:
            raise LandingTakenError(self.read().holder) from None
        self._is_held = True
        self._seen = (numbered, mark)
        return numbered

    def add(self, path: str, write: Callable[[Path], object]) -> None:
        """Put the file that `write` makes under a new path. Errors: `NameTakenError`."""
        folder = path.partition("/")[0]
        failpoints.reach(f"{folder}.before_write")
        draft = self._store.draft(path)
        write(draft)
        failpoints.reach(f"{folder}.before_name")
        self._store.add(path, draft)
        failpoints.reach(f"{folder}.after_name")

    def local(self, file: DataFile) -> Path:
        """A local file with the content of one that the manifest names."""
        if not file.archived:
            return self._store.local(file.path)
        if self._archive is None:
            raise FileNotFoundError(
                f"{file.path} was moved to the archive: set TALLYSTICK_LANDING_ARCHIVE to it."
            )
        return self._archive.local(file.path)

    def move_to_archive(self, file: DataFile) -> DataFile:
        """Copy a file to the archive; once the manifest says so, the sweep removes it here."""
        if self._archive is None:
            raise FileNotFoundError("There is no archive: set TALLYSTICK_LANDING_ARCHIVE.")
        failpoints.reach("archive.before_copy")
        draft = self._archive.draft(file.path)
        draft.write_bytes(self.local(file).read_bytes())
        self._archive.add(file.path, draft)
        failpoints.reach("archive.after_copy")
        return msgspec.structs.replace(file, archived=True)

    def sweep(self) -> int:
        """Remove files that the manifest does not name; gives their number.

        Only for the holder, and only after readers in this process use the new manifest.
        Errors: `LandingTakenError`: then the files may be another's, and stay.
        """
        # Listed before the manifest is looked at: what a new holder writes is not in the list.
        left = self._store.paths()
        manifest = self.read()
        if self._is_taken(manifest):
            raise LandingTakenError(manifest.holder)
        named = {file.path for file in _all_files(manifest.sources.values()) if not file.archived}
        stray = [path for path in left if path.startswith(FOLDERS) and path not in named]
        failpoints.reach("sweep.before_remove")
        self._store.remove(stray)
        failpoints.reach("sweep.after_remove")
        return len(stray)

    def _is_taken(self, manifest: LandingManifest) -> bool:
        return self._is_held and manifest.holder != self._holder


def _all_files(sources: Iterable[LandedSource]) -> Iterable[DataFile]:
    for source in sources:
        yield from source.raw
        yield from source.quarantine
        for files in source.typed.values():
            yield from files
