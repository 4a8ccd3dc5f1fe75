"""`tally verify`, `pack`, `rebuild`, `export`, `import` and `replay`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec
import psycopg

from ledger_service.contract import environment, logs
from ledger_service.contract.brokers import Brokers
from ledger_service.engine.arriving import arrive
from ledger_service.engine.leaving import export as export_ledger
from ledger_service.engine.pack import PackError, write_pack
from ledger_service.engine.projections import PROJECTIONS
from ledger_service.engine.rebuild import rebuild as rebuild_projection
from ledger_service.engine.replay import replay as replay_events
from ledger_service.engine.sources import Source
from ledger_service.engine.verification import remedies
from ledger_service.engine.verification.explain import EXPLANATIONS, explain_event
from ledger_service.engine.verify import Keys, Report, verify_new
from ledger_service.engine.verify import verify as run_verify


@click.command()
@click.option("--ledger", help="Only this ledger.")
@click.option("--full", is_flag=True, help="Everything, not only what came since the last time.")
@click.option("--kafka", is_flag=True, help="Compare the topics too.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
@click.option("--explain", metavar="SEQ|CHECK", help="What an event is, or what a finding means.")
def verify(ledger: str | None, full: bool, kafka: bool, as_json: bool, explain: str | None) -> None:
    """Derive everything again from the journal; name what does not agree (exit 1).

    A violation of journal, chain or balance stops its ledger.
    """
    # The report alone is on standard output.
    logs.configure("verify", environment.read("TALLYSTICK_LOG_LEVEL"))
    if explain is not None:
        _explain(explain, ledger)
        return
    keys = Keys.from_text(
        environment.read("TALLYSTICK_LOG_PUBLIC_KEY"),
        environment.read("TALLYSTICK_WITNESS_PUBLIC_KEY"),
    )
    try:
        url = environment.read("TALLYSTICK_DATABASE_URL")
        if full or kafka:
            brokers = Brokers.from_settings() if kafka else None
            report = run_verify(url, ledger, full=full, keys=keys, brokers=brokers)
        else:
            report = verify_new(url, ledger, keys=keys)
        remedies.apply(url, report)
    except (environment.MissingSetting, psycopg.OperationalError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        print(
            msgspec.json.encode({**msgspec.to_builtins(report), "sound": report.is_sound}).decode()
        )
    else:
        _show(report)
    sys.exit(0 if report.is_sound else 1)


def _explain(what: str, ledger: str | None) -> None:
    if not what.isdigit():
        text = EXPLANATIONS.get(what)
        if text is None:
            raise click.ClickException(f"There is no {what}; there are {', '.join(EXPLANATIONS)}.")
        print(text)
        return
    if ledger is None:
        raise click.ClickException("Say of which ledger: --ledger NAME.")
    for line in explain_event(environment.read("TALLYSTICK_DATABASE_URL"), ledger, int(what)):
        print(line)


def _show(report: Report) -> None:
    for name, seq in report.ledgers.items():
        found = [finding for finding in report.findings if finding.ledger == name]
        print(f"{name}: {seq} events, {'sound' if not found else f'{len(found)} findings'}")
    for finding in report.findings:
        place = f"seq {finding.seq}" if finding.seq is not None else "-"
        print(
            f"  {finding.ledger or '*'} {place}: {finding.table} [{finding.row}] {finding.code}: "
            f"{finding.message} ({finding.remedy})"
        )
    if report.findings:
        print("What it means: tally verify --explain CODE; what to do: docs/operations.md")
    print(f"Tables looked at: {', '.join(report.tables)}")


@click.command()
@click.option("--ledger", required=True, help="The ledger to pack.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A folder to write.")
def pack(ledger: str, out: Path) -> None:
    """Write what an auditor needs to verify a ledger offline: events, checkpoint, public keys."""
    try:
        size = write_pack(
            environment.read("TALLYSTICK_DATABASE_URL"),
            ledger,
            out,
            log_key=environment.read("TALLYSTICK_LOG_PUBLIC_KEY"),
            witness_key=environment.read("TALLYSTICK_WITNESS_PUBLIC_KEY"),
        )
    except (environment.MissingSetting, psycopg.OperationalError, PackError) as error:
        raise click.ClickException(str(error)) from None
    print(f"{out}: {size} events of {ledger}")


@click.command()
@click.option("--ledger", required=True, help="The ledger.")
@click.argument("projection", required=False, type=click.Choice(list(PROJECTIONS)))
def rebuild(ledger: str, projection: str | None) -> None:
    """Derive a projection (or all) from the journal again and put right what differs, while all runs."""
    names = [projection] if projection else list(PROJECTIONS)
    with psycopg.connect(
        environment.read("TALLYSTICK_DATABASE_URL"), autocommit=True
    ) as connection:
        for name in names:
            found = rebuild_projection(connection, ledger, name)
            differing = [f"{count} in {table}" for table, count in found.differing.items()]
            said = f"put right {', '.join(differing)}" if differing else "as the journal says"
            print(f"{ledger} {name}, up to {found.seq}: {said}")
            for place in found.places:
                print(f"  {place}")


@click.command()
@click.option("--ledger", required=True, help="The ledger to export.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A folder to make.")
def export(ledger: str, out: Path) -> None:
    """Write a whole ledger as files: events, proofs, keys of requests, Parquet."""
    try:
        manifest = export_ledger(
            environment.read("TALLYSTICK_DATABASE_URL"),
            ledger,
            out,
            log_key=environment.read("TALLYSTICK_LOG_PUBLIC_KEY"),
            witness_key=environment.read("TALLYSTICK_WITNESS_PUBLIC_KEY"),
        )
    except PackError as error:
        raise click.ClickException(str(error)) from None
    print(f"{out}: {manifest.seq} events of {ledger}, root {manifest.root}")
    if manifest.head_seq > manifest.seq:
        later = manifest.head_seq - manifest.seq
        print(f"{later} later events are under no checkpoint yet: to leave, stop posting first.")


@click.command(name="import")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--log-key", default="", help="Public key (base64) that must have signed it.")
def import_(folder: Path, log_key: str) -> None:
    """Import an exported ledger, where it is empty; nothing happens unless all of it is sound."""
    manifest = arrive(environment.read("TALLYSTICK_DATABASE_URL"), folder, log_key=log_key)
    print(f"{manifest.ledger}: {manifest.seq} events, root {manifest.root}")


@click.command()
@click.argument("source")
@click.argument("topic")
@click.option("--stream", is_flag=True, help="SOURCE is a stream, not a ledger.")
@click.option("--from", "first", type=int, default=1, show_default=True, help="Its first seq.")
@click.option(
    "--to", "last", type=int, default=None, help="Its last seq; left out: the newest one."
)
def replay(source: str, topic: str, *, stream: bool, first: int, last: int | None) -> None:
    """Publish events of a ledger once more, byte for byte, into a TOPIC of their own.

    A topic of the relay that was lost is published again by the relay itself.
    """
    count = replay_events(
        Source(source, "stream" if stream else "journal"),
        topic,
        first=first,
        last=last,
        database_url=environment.read("TALLYSTICK_DATABASE_URL"),
        brokers=Brokers.from_settings(),
        replication=int(environment.read("TALLYSTICK_KAFKA_REPLICATION")),
    )
    print(f"{topic}: {count} events of {source}, as the journal holds them")
