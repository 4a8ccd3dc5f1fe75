"""Where the landing lies: a folder on a local disk, or a prefix on object storage.

Both keep the same promises. A file is written once and whole, under a name that nobody used; a
repeat of the same bytes is the same file. The manifest is replaced only by who has seen the one
that stands there. Whatever is read is read as a local file, because DuckDB reads local files: from
object storage it is fetched once, which is right for ever, since names are never used again.
"""

from __future__ import annotations

import fcntl
import filecmp
import hashlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ledger_service.contract.snapshots import write_atomically

if TYPE_CHECKING:
    from obstore import PutMode


class NameTakenError(RuntimeError):
    """Other bytes lie under the name of a file that is written once."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} is there already, with other bytes, and no file is written twice. Run "
            "`tally pipeline run-once`: it removes what no manifest names, and lands again."
        )


class ReplacedError(RuntimeError):
    """The file to replace is not the one that was seen."""


class Store(Protocol):
    """Files by path, e.g. `raw/books/000000000001-000000000100.parquet`."""

    def draft(self, path: str) -> Path:
        """Where to write what `add` will put under `path`: a local file of this process alone."""
        ...

    def add(self, path: str, draft: Path) -> None:
        """Put a finished draft under `path`; either way it is gone. Errors: `NameTakenError`."""
        ...

    def local(self, path: str) -> Path:
        """A local file with the content of `path`. Errors: `FileNotFoundError`."""
        ...

    def read(self, path: str) -> tuple[bytes, str] | None:
        """The present content and its mark, for `replace`; None where there is none."""
        ...

    def replace(self, path: str, content: bytes, seen: str | None) -> str:
        """Put `content` in the place of what has the mark `seen` (None: of nothing).

        Gives the new mark. Errors: `ReplacedError`; then nothing has changed.
        """
        ...

    def paths(self) -> list[str]:
        """All files, drafts that a crash left behind too."""
        ...

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files."""
        ...


class Disk:
    """A folder on a local disk."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def draft(self, path: str) -> Path:
        """A hidden file beside the final one."""
        return _draft(self._root / path)

    def add(self, path: str, draft: Path) -> None:
        """By a hard link, which fails where the name exists."""
        target = self._root / path
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        try:
            os.link(draft, target)
        except FileExistsError:
            if not filecmp.cmp(draft, target, shallow=False):
                raise NameTakenError(path) from None
        finally:
            draft.unlink()
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name, too, survives a loss of power
        finally:
            os.close(folder)

    def local(self, path: str) -> Path:
        """The file itself."""
        return self._root / path

    def read(self, path: str) -> tuple[bytes, str] | None:
        """The mark is a hash of the content."""
        try:
            content = (self._root / path).read_bytes()
        except FileNotFoundError:
            return None
        return content, _hash(content)

    def replace(self, path: str, content: bytes, seen: str | None) -> str:
        """Under a lock, so that nobody comes between the look and the rename."""
        self._root.mkdir(parents=True, exist_ok=True)
        lock_name = f".{path}.lock"
        with (self._root / lock_name).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = self.read(path)
            if (found[1] if found else None) != seen:
                raise ReplacedError
            for draft in self._root.glob(f".{path}.*"):
                if draft.name != lock_name:
                    draft.unlink()  # of a process that was killed: under the lock there is no other
            write_atomically(self._root / path, content)
        return _hash(content)

    def paths(self) -> list[str]:
        """All there are."""
        return _files(self._root)

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files."""
        for path in paths:
            (self._root / path).unlink(missing_ok=True)


class ObjectStorage:
    """A prefix in a bucket that takes conditional writes, and a local folder of what was read.

    Address and credentials are the ones that Amazon's own tools take from the environment (AWS_*).
    """

    def __init__(self, url: str, cache: Path) -> None:
        # Imported late: it takes a second, which a landing on a disk can spare.
        import obstore
        from obstore.store import from_url

        self._obstore = obstore
        self._store = from_url(url)
        self._cache = cache

    def draft(self, path: str) -> Path:
        """In the cache."""
        return _draft(self._cache / path)

    def add(self, path: str, draft: Path) -> None:
        """By one PUT with `If-None-Match: *`; the draft becomes the cached file."""
        exists = self._obstore.exceptions.AlreadyExistsError
        try:
            self._obstore.put(self._store, path, draft, mode="create", use_multipart=False)
        except exists:
            if self._get(path)[0] != draft.read_bytes():
                draft.unlink()
                raise NameTakenError(path) from None
        draft.replace(self._cache / path)

    def local(self, path: str) -> Path:
        """The cached file, fetched where it is not there yet."""
        cached = self._cache / path
        if not cached.exists():
            draft = self.draft(path)
            draft.write_bytes(self._get(path)[0])
            draft.replace(cached)
        return cached

    def read(self, path: str) -> tuple[bytes, str] | None:
        """The mark is the ETag."""
        try:
            return self._get(path)
        except FileNotFoundError:
            return None

    def replace(self, path: str, content: bytes, seen: str | None) -> str:
        """By one PUT with `If-Match`, or `If-None-Match: *` where there was nothing."""
        errors = self._obstore.exceptions
        mode: PutMode = "create" if seen is None else {"e_tag": seen}
        try:
            return _mark(self._obstore.put(self._store, path, content, mode=mode))
        except (errors.AlreadyExistsError, errors.PreconditionError):
            # The answer to our own PUT may have been lost, and the client have sent it again.
            found = self.read(path)
            if found is None or found[0] != content:
                raise ReplacedError from None
            return found[1]

    def paths(self) -> list[str]:
        """In the bucket and in the cache."""
        stored = {meta["path"] for page in self._obstore.list(self._store) for meta in page}
        return sorted(stored.union(_files(self._cache)))

    def remove(self, paths: Iterable[str]) -> None:
        """From the bucket and the cache."""
        gone = list(paths)
        if gone:
            self._obstore.delete(self._store, gone)
        for path in gone:
            (self._cache / path).unlink(missing_ok=True)

    def _get(self, path: str) -> tuple[bytes, str]:
        found = self._obstore.get(self._store, path)
        return bytes(found.bytes()), _mark(found.meta)


def store_at(place: str, cache: Path) -> Store:
    """The store that a setting names: `s3://bucket/prefix` or a directory."""
    return ObjectStorage(place, cache) if "://" in place else Disk(Path(place))


def _mark(answer: object) -> str:
    mark = answer["e_tag"]  # type: ignore[index]
    if mark is None:
        raise RuntimeError("The object storage gives no ETags: it can't hold a landing.")
    return mark


def _draft(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}")


def _files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
