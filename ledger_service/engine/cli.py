"""`tally verify` and `tally pack`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec
import psycopg

from ledger_service.contract import environment
from ledger_service.engine.pack import PackError, write_pack
from ledger_service.engine.verification import remedies
from ledger_service.engine.verification.explain import EXPLANATIONS, explain_event
from ledger_service.engine.verify import Keys, Report, verify_new
from ledger_service.engine.verify import verify as run_verify


@click.command()
@click.option("--ledger", help="Only this ledger.")
@click.option("--full", is_flag=True, help="Everything, not only what came since the last time.")
@click.option("--kafka", metavar="HOST:PORT", help="Compare the topics of these brokers too.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
@click.option("--explain", metavar="SEQ|CHECK", help="What an event is, or what a finding means.")
def verify(
    ledger: str | None, full: bool, kafka: str | None, as_json: bool, explain: str | None
) -> None:
    """Derive everything again from the journal; name what does not agree (exit 1).

    A violation of journal, chain or balance stops its ledger.
    """
    if explain is not None:
        _explain(explain, ledger)
        return
    keys = Keys.from_text(
        environment.read("TALLYSTICK_LOG_PUBLIC_KEY"),
        environment.read("TALLYSTICK_WITNESS_PUBLIC_KEY"),
    )
    try:
        url = environment.read("TALLYSTICK_DATABASE_URL")
        if full or kafka is not None:
            report = run_verify(url, ledger, full=full, keys=keys, kafka=kafka)
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
