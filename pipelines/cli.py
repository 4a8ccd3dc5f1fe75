"""`tally pipeline`: what people and scripts do without Dagster."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ledger_service.contract import environment
from pipelines.places import Places

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipelines.flow import Flow, Publication
    from pipelines.publication.snapshot import Outcome

_WAIT_S = 660.0
"""A streaming run gives way within seconds; a build may take its minutes."""


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
    """Drop the warehouse and build it again from the landing; snapshots stay until then.

    What was typed in an older form is typed anew first.
    """
    _run(rebuild=True, expectations=True, reports=True)


@contextlib.contextmanager
def _flow() -> Iterator[Flow]:
    """The flow, holding warehouse and landing; a named failure becomes the command's error."""
    import httpx
    from confluent_kafka import KafkaException

    from ledger_service.contract.brokers import refusal
    from pipelines.flow import Flow
    from pipelines.ingestion import manifest, rewriting, store
    from pipelines.warehouse.dbt import DbtError
    from pipelines.warehouse.lock import WarehouseBusyError

    try:
        flow = Flow.from_settings()
        try:
            with flow.lock.held(_WAIT_S):
                flow.recover()
                yield flow
        finally:
            flow.close()
    except (
        DbtError,
        FileNotFoundError,
        WarehouseBusyError,
        environment.MissingSetting,
        httpx.HTTPError,
        manifest.LandingTakenError,
        rewriting.TopicNotWholeError,
        rewriting.UnknownSourceError,
        store.NameTakenError,
    ) as failure:
        raise click.ClickException(str(failure)) from None
    except KafkaException as failure:
        said = refusal(failure)
        raise click.ClickException(f"{said.code}: {said.message}") from None


def _run(*, rebuild: bool, expectations: bool, reports: bool) -> None:
    from pipelines.flow import merge

    with _flow() as flow:
        landed = 0
        while events := flow.land(seconds=2.0).events:
            landed += events
        flow.convert()
        if rebuild:
            flow.retype_outdated()
            flow.drop_warehouse()
            flow.recover()
        flow.build()
        suites = _evaluate(flow) if expectations else []
        publication = flow.publish(merge(suites, flow.light_checks()))
        _say_if_blocked(publication)
        written = _write_reports(flow) if reports else 0
    manifest = publication.manifests["general"]
    as_of = ", ".join(f"{source} {seq}" for source, seq in manifest.as_of.items())
    click.echo(
        f"Landed {landed:,} events; published snapshot {manifest.version} as of {as_of}; "
        f"{written} reports written."
    )


def _say_if_blocked(publication: Publication) -> None:
    if publication.blocked_by:
        failed = {o.check.name: o.check.detail for o in publication.outcomes}
        reasons = "; ".join(f"{name}: {failed[name]}" for name in publication.blocked_by)
        raise click.ClickException(f"Not published, the last snapshot stays. {reasons}")


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


@pipeline.command("spark")
@click.option("--full-refresh", is_flag=True, help="Build all marts anew.")
@click.option("--test/--no-test", default=True, help="Run dbt's tests of the data, too.")
def build_on_spark(full_refresh: bool, test: bool) -> None:
    """Bring the marts on a Spark cluster up to the landing."""
    from pipelines.warehouse.dbt import DbtError
    from pipelines.warehouse.spark import SparkMarts

    try:
        marts = SparkMarts(Places.from_settings())
        built = marts.build(full_refresh=full_refresh)
        if test:
            marts.test()
    except DbtError as failure:
        raise click.ClickException(str(failure)) from None
    as_of = ", ".join(f"{source} {seq}" for source, seq in built.items())
    click.echo(f"The marts on Spark are built as of {as_of}.")


@pipeline.command("docs")
def write_docs() -> None:
    """Write dbt's documentation as a page beside each snapshot."""
    from pipelines.flow import Flow
    from pipelines.warehouse.dbt import DbtError
    from pipelines.warehouse.lock import WarehouseBusyError

    try:
        flow = Flow.from_settings()
        with flow.lock.held(_WAIT_S):
            files = flow.document()
        flow.close()
    except (DbtError, WarehouseBusyError, environment.MissingSetting) as failure:
        raise click.ClickException(str(failure)) from None
    for file in files:
        click.echo(file)


@pipeline.command("quarantine")
def show_quarantine() -> None:
    """The events that break the contract, and why."""
    from pipelines.ingestion import quarantine
    from pipelines.ingestion.manifest import Landing

    places = Places.from_settings()
    landing = Landing.at(places.landing, places.cache, places.archive)
    try:
        waiting = list(quarantine.listing(landing))
    except FileNotFoundError as failure:
        raise click.ClickException(str(failure)) from None
    for one in waiting:
        where = f"offset {one.event.offset}" if one.event.offset is not None else one.event.seq
        click.echo(f"{one.source}\t{where}\t{one.event.code}\t{one.event.reason}")
    click.echo(f"{len(waiting)} events in quarantine.")


@pipeline.command("requeue")
@click.argument("source")
@click.option("--code", "codes", multiple=True, help="Only events with this code; may be repeated.")
@click.option("--first", type=int, default=1, help="The first seq.")
@click.option("--last", type=int, default=2**63 - 1, help="The last seq.")
def requeue(source: str, codes: tuple[str, ...], first: int, last: int) -> None:
    """Try quarantined events of a ledger or stream again, once their cause is mended."""
    with _flow() as flow:
        done = flow.requeue(
            source, lambda one: first <= one.seq <= last and (not codes or one.code in codes)
        )
    click.echo(
        f"{done.typed} of {done.tried} events are good now; {done.tried - done.typed} stay in "
        "quarantine. The next build takes up what is good."
    )


@pipeline.command("retype")
@click.argument("source")
def retype(source: str) -> None:
    """Make the typed landing of a ledger or stream anew from the raw one."""
    with _flow() as flow:
        events = flow.retype(source)
    click.echo(f"{events} events of {source} are typed anew. The next build takes them up.")


@pipeline.command("reland")
@click.argument("source")
def reland(source: str) -> None:
    """Land a ledger's or stream's topic anew: it was published once more, because it was wrong."""
    with _flow() as flow:
        flow.reland(source)
        landed = 0
        while events := flow.land(seconds=2.0).events:
            landed += events
        flow.convert()
        manifest = flow.landing.read()
    click.echo(
        f"Landed {landed} events; {source} stands at seq {manifest.landed[source]}, "
        f"{manifest.quarantined} events are in quarantine. The next build takes them up."
    )


@pipeline.command("archive")
@click.option("--keep", type=click.IntRange(min=0), default=10_000_000, show_default=True,
              help="How many of a ledger's last events stay.")  # fmt: skip
def archive(keep: int) -> None:
    """Move raw files that are typed and under a checkpoint to TALLYSTICK_LANDING_ARCHIVE."""
    with _flow() as flow:
        moved = flow.archive(keep)
    for name, files in moved.items():
        click.echo(f"{name}: {files} files")
    click.echo(f"{sum(moved.values())} raw files moved to the archive.")
