"""`tally snapshot` and `tally sql`: what people and scripts do with published snapshots."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table as Lines

from ledger_service.contract import snapshots as contract
from ledger_service.contract.snapshots import SnapshotName
from pipelines.places import Places

if TYPE_CHECKING:
    from pipelines.publication.reading import Reader
    from pipelines.publication.tables import Format

_of_snapshot = click.option(
    "--snapshot",
    "name",
    type=click.Choice(["general", "restricted"]),
    default="general",
    show_default=True,
)
_of_version = click.option("--version", type=int, default=None, help="Default: the current one.")
_in_format = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
)


@click.group()
def snapshot() -> None:
    """Published snapshots of the marts."""


def _folder() -> Path:
    return Places.from_settings().snapshots


@snapshot.command("list")
def list_snapshots() -> None:
    """The versions that are kept, newest first, and what cites them."""
    lines = Lines("snapshot", "version", "created", "rows", "as of", "cited by")
    for name in ("general", "restricted"):
        cited = contract.pins(_folder(), name)
        for path in sorted((_folder() / name / "manifests").glob("[0-9]*.json"), reverse=True):
            one = contract.read_manifest(_folder(), name, int(path.stem))
            if one is None:
                continue  # removed since it was listed
            rows = sum(part.rows for parts in one.marts.values() for part in parts)
            as_of = ", ".join(f"{source} {seq}" for source, seq in one.as_of.items())
            names = ", ".join(sorted(c for c, version in cited.items() if version == one.version))
            lines.add_row(name, str(one.version), one.created_at, f"{rows:,}", as_of, names)
    Console().print(lines)


@snapshot.command("path")
@click.argument("mart")
@_of_snapshot
@_of_version
def show_path(mart: str, name: SnapshotName, version: int | None) -> None:
    """The Parquet files of one mart, one a line."""
    with contract.held(_folder(), name, version) as manifest:
        if mart not in manifest.marts:
            raise click.ClickException(
                f"{name} holds no mart {mart!r}; it holds {', '.join(sorted(manifest.marts))}."
            )
        for path in contract.part_paths(_folder(), manifest, mart):
            click.echo(path)


@snapshot.command("verify")
@_of_snapshot
@_of_version
def verify_snapshot(name: SnapshotName, version: int | None) -> None:
    """Read every part again and compare it with the manifest."""
    from pipelines.publication import snapshot as published

    with contract.held(_folder(), name, version) as manifest:
        try:
            parts = published.verify(_folder(), manifest)
        except published.SnapshotDamagedError as damage:
            raise click.ClickException(str(damage)) from None
    click.echo(f"{name} {manifest.version}: {parts} parts hold what the manifest says.")


@snapshot.command("diff")
@click.argument("before", type=int)
@click.argument("after", type=int)
@_of_snapshot
@click.option("--mart", default=None, help="The rows of this mart, a line for each column.")
@_in_format
def diff(before: int, after: int, name: SnapshotName, mart: str | None, form: Format) -> None:
    """What changed from version BEFORE to AFTER, and by which seq: first in numbers, per mart."""
    from pipelines.publication import difference, tables

    with difference.compared(_folder(), name, before, after) as found:
        if form == "table":
            sources = sorted({*found.before.as_of, *found.after.as_of})
            moved = (
                f"{one} {found.before.as_of.get(one, 0)} to {found.after.as_of.get(one, 0)}"
                for one in sources
            )
            click.echo(f"{name} {before} to {after}: {', '.join(moved)}")
        tables.write(found.rows(mart) if mart else found.summary(), form, sys.stdout)


@snapshot.command("export")
@click.argument("mart")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--xlsx", "xlsx_file", type=click.Path(path_type=Path, dir_okay=False))
@_of_snapshot
@_of_version
def export(
    mart: str,
    csv_file: Path | None,
    xlsx_file: Path | None,
    name: SnapshotName,
    version: int | None,
) -> None:
    """Write a mart as CSV, as a sheet of Excel, or both of the same version."""
    from pipelines.publication import export as exporting
    from pipelines.publication import reading

    if not (csv_file or xlsx_file):
        raise click.UsageError("Say where to write: --csv FILE, --xlsx FILE, or both.")
    with reading.opened(_folder(), name, version) as reader:
        for file, write in (
            (csv_file, exporting.export_csv),
            (xlsx_file, exporting.export_xlsx),
        ):
            if file:
                count = write(reader, mart, file)
                click.echo(f"{file}: {count:,} rows of {mart}, {name} {reader.manifest.version}.")


@snapshot.command("pin")
@click.argument("citation")
@_of_snapshot
@_of_version
def pin(citation: str, name: SnapshotName, version: int | None) -> None:
    """Keep a version for as long as CITATION, e.g. a paper's file name, needs it."""
    with contract.held(_folder(), name, version) as manifest:
        contract.pin(_folder(), manifest, citation)
    click.echo(f"{citation} keeps {name} {manifest.version}.")


@snapshot.command("unpin")
@click.argument("citation")
@_of_snapshot
def unpin(citation: str, name: SnapshotName) -> None:
    """CITATION needs its version no more."""
    if citation not in contract.pins(_folder(), name):
        raise click.ClickException(f"{citation!r} keeps nothing: see `tally snapshot list`.")
    contract.unpin(_folder(), name, citation)
    click.echo(f"{citation} keeps nothing any more.")


@click.command()
@click.argument("query", required=False)
@_of_snapshot
@_of_version
@_in_format
@click.option(
    "--value", "values", multiple=True, metavar="NAME=VALUE", help="Of a parameter, $NAME."
)
def sql(
    query: str | None,
    name: SnapshotName,
    version: int | None,
    form: Format,
    values: tuple[str, ...],
) -> None:
    """Ask a snapshot: a QUERY, queries from a pipe, or a shell that takes them one by one.

    Each mart is a view; `show tables` lists them, `describe entries` their columns. Nothing can be
    written, and no file be read beside the snapshot, which stays the same until the shell ends.
    """
    from pipelines.publication import reading, tables

    if wrong := [one for one in values if "=" not in one]:
        raise click.UsageError(f"--value takes NAME=VALUE, not {wrong[0]!r}.")
    given = dict(one.split("=", 1) for one in values)
    with reading.opened(_folder(), name, version) as reader:
        if query is None and sys.stdin.isatty():
            _shell(reader, form, given)
        else:
            for table in reader.queries(sys.stdin.read() if query is None else query, given):
                tables.write(table, form, sys.stdout)


def _shell(reader: Reader, form: Format, values: dict[str, str]) -> None:
    from pipelines.publication import reading, tables

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - lines can be edited and called back

    of = reader.manifest
    click.echo(f"{of.name} {of.version}, {of.created_at}. End a query with ';', leave with Ctrl-D.")
    text = ""
    while True:
        try:
            text += input("    ...> " if text else f"{of.name} {of.version}> ") + "\n"
        except KeyboardInterrupt:
            click.echo()
            text = ""
            continue
        except EOFError:
            click.echo()
            return
        if not text.rstrip().endswith(";"):
            continue
        try:
            for table in reader.queries(text, values):
                tables.write(table, form, sys.stdout)
        except (reading.QueryError, reading.NotAQueryError) as refusal:
            click.echo(f"{refusal.code}: {refusal}", err=True)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
        text = ""
