"""`tally snapshot` and `tally pipeline`: what people and scripts do without Dagster."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from ledger_service.contract import environment
from ledger_service.contract.snapshots import Manifest, SnapshotName, part_paths, read_manifest
from pipelines.places import Places

if TYPE_CHECKING:
    from pipelines.flow import Flow
    from pipelines.publication.snapshot import Outcome

_NAME = click.Choice(["general", "restricted"])
_WAIT_S = 660.0
"""A streaming run gives way within seconds; a build may take its minutes."""


@click.group()
def snapshot() -> None:
    """Published snapshots of the marts."""


def _manifest(name: SnapshotName, version: int | None) -> Manifest:
    manifest = read_manifest(Places.from_settings().snapshots, name, version)
    if manifest is None:
        which = "No snapshot" if version is None else f"No version {version}"
        raise click.ClickException(
            f"{which} of {name} is published: see `tally snapshot list`, or run "
            "`tally pipeline run-once`."
        )
    return manifest


@snapshot.command("list")
def list_snapshots() -> None:
    """The versions that are kept, newest first."""
    places = Places.from_settings()
    table = Table("snapshot", "version", "created", "rows", "as of")
    for name in ("general", "restricted"):
        folder = places.snapshots / name / "manifests"
        for path in sorted(folder.glob("[0-9]*.json"), reverse=True):
            one = _manifest(name, int(path.stem))
            rows = sum(part.rows for parts in one.marts.values() for part in parts)
            as_of = ", ".join(f"{source} {seq}" for source, seq in one.as_of.items())
            table.add_row(name, str(one.version), one.created_at, f"{rows:,}", as_of)
    Console().print(table)


@snapshot.command("path")
@click.argument("mart")
@click.option("--snapshot", "name", type=_NAME, default="general")
@click.option("--version", type=int, default=None, help="Default: the current one.")
def show_path(mart: str, name: SnapshotName, version: int | None) -> None:
    """The Parquet files of one mart, one a line."""
    manifest = _manifest(name, version)
    if mart not in manifest.marts:
        raise click.ClickException(
            f"{name} holds no mart {mart!r}; it holds {', '.join(sorted(manifest.marts))}."
        )
    for path in part_paths(Places.from_settings().snapshots, manifest, mart):
        click.echo(path)


@snapshot.command("verify")
@click.option("--snapshot", "name", type=_NAME, default="general")
@click.option("--version", type=int, default=None, help="Default: the current one.")
def verify_snapshot(name: SnapshotName, version: int | None) -> None:
    """Read every part again and compare it with the manifest."""
    from pipelines.publication import snapshot as published

    manifest = _manifest(name, version)
    try:
        parts = published.verify(Places.from_settings().snapshots, manifest)
    except published.SnapshotDamagedError as damage:
        raise click.ClickException(str(damage)) from None
    click.echo(f"{name} {manifest.version}: {parts} parts hold what the manifest says.")


@click.group()
def pipeline() -> None:
    """Landing, marts, checks and publication in this process."""


@pipeline.command("run-once")
@click.option("--expectations/--no-expectations", default=False, help="Great Expectations too.")
@click.option("--reports/--no-reports", default=True, help="The daily reports that are missing.")
def run_once(expectations: bool, reports: bool) -> None:
    """Land, build, check and publish what is new."""
    _run(rebuild=False, expectations=expectations, reports=reports)


@pipeline.command("rebuild")
def rebuild() -> None:
    """Drop the warehouse and build it again from the landing; snapshots stay until then."""
    _run(rebuild=True, expectations=True, reports=True)


def _run(*, rebuild: bool, expectations: bool, reports: bool) -> None:
    from pipelines.flow import Flow, merge
    from pipelines.warehouse.dbt import DbtError
    from pipelines.warehouse.lock import WarehouseBusyError

    try:
        flow = Flow.from_settings()
        with flow.lock.held(_WAIT_S):
            if rebuild:
                flow.drop_warehouse()
            flow.recover()
            landed = 0
            while events := flow.land(seconds=2.0).events:
                landed += events
            flow.convert()
            flow.build()
            suites = _evaluate(flow) if expectations else []
            publication = flow.publish(merge(suites, flow.light_checks()))
    except (DbtError, WarehouseBusyError, environment.MissingSetting) as failure:
        raise click.ClickException(str(failure)) from None
    if publication.blocked_by:
        failed = {o.check.name: o.check.detail for o in publication.outcomes}
        reasons = "; ".join(f"{name}: {failed[name]}" for name in publication.blocked_by)
        raise click.ClickException(f"Not published, the last snapshot stays. {reasons}")
    manifest = publication.manifests["general"]
    written = _write_reports(flow) if reports else 0
    flow.close()
    as_of = ", ".join(f"{source} {seq}" for source, seq in manifest.as_of.items())
    click.echo(
        f"Landed {landed:,} events; published snapshot {manifest.version} as of {as_of}; "
        f"{written} reports written."
    )


def _evaluate(flow: Flow) -> list[Outcome]:
    from pipelines.checks import expectations

    frames = Path(tempfile.mkdtemp(prefix="tallystick-"))
    try:
        flow.extract_frames(frames)
        return expectations.run(frames, flow.places.warehouse)
    finally:
        shutil.rmtree(frames, ignore_errors=True)


def _write_reports(flow: Flow) -> int:
    from pipelines.reports.fbo import MissingReports

    missing, written = MissingReports(flow.places, flow.api), 0
    while count := missing.build_some(50):
        written += count
    return written


@pipeline.command("quarantine")
def show_quarantine() -> None:
    """The events that break the contract, and why."""
    from pipelines.ingestion import quarantine
    from pipelines.ingestion.manifest import Landing

    places = Places.from_settings()
    manifest = Landing(places.landing).read()
    for one in quarantine.listing(places.quarantine, manifest):
        where = f"offset {one.event.offset}" if one.event.offset is not None else one.event.seq
        click.echo(f"{one.source}\t{where}\t{one.event.code}\t{one.event.reason}")
    click.echo(f"{manifest.quarantined} events in quarantine.")
