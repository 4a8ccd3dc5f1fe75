"""Which files are joined: many small ones, and no large one a second time."""

from __future__ import annotations

from pipelines.ingestion.compaction import LARGE_ROWS, MANY_FILES, SMALL_ROWS, _groups, compact
from pipelines.ingestion.manifest import DataFile, LandedSource, LandingManifest


def files(*rows: int) -> list[DataFile]:
    return [DataFile(path=f"{n}", first_seq=n, last_seq=n, rows=r) for n, r in enumerate(rows)]


def grouped(*rows: int) -> list[list[int]]:
    return [[file.rows for file in group] for group in _groups(files(*rows))]


def test_small_neighbours_are_joined_up_to_the_size_of_a_large_one():
    part = SMALL_ROWS
    assert grouped(*[part] * 5) == [[part] * 4, [part]]
    assert grouped(1, 2, LARGE_ROWS, 3, 4) == [[1, 2], [LARGE_ROWS], [3, 4]]
    assert grouped(1, part + 1, part + 1, 2) == [[1], [part + 1], [part + 1], [2]]


def test_many_large_files_are_no_reason_to_join_the_few_small_ones_each_time():
    class Landing:
        def read(self) -> LandingManifest:
            rows = [LARGE_ROWS] * 2 * MANY_FILES + [1] * MANY_FILES
            return LandingManifest().with_source("a", LandedSource("t", "i", raw=files(*rows)))

        def commit(self, _manifest: LandingManifest) -> LandingManifest:
            raise AssertionError("there was nothing to join")

    assert compact(Landing()) == 0  # type: ignore[arg-type] - a manifest is all it looks at
