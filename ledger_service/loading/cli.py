"""`tally load`: post a file of transfers by a mapping."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--mapping", required=True, help="Name of a mapping, or path of a YAML file.")
@click.option("--ledger", help="Ledger to load into; default: the mapping's.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first rows of the file.")
@click.option("--json", "as_json", is_flag=True, help="Print the load's manifest.")
def load(file: Path, mapping: str, ledger: str | None, limit: int | None, as_json: bool) -> None:
    """Post FILE, a CSV or Parquet of transfers. May be stopped and run again; nothing doubles."""
    from ledger_service.contract.identifiers import check_ledger
    from ledger_service.loading.ledger_client import LedgerClient
    from ledger_service.loading.load import Load
    from ledger_service.loading.mapping import load_mapping
    from ledger_service.loading.partner_bank import PartnerBank
    from ledger_service.loading.progress_bar import progress_bar
    from ledger_service.loading.source import Source

    if ledger is not None:
        check_ledger(ledger)
    one = Load(Source(file), load_mapping(mapping), ledger, limit)
    with (
        LedgerClient(one.ledger) as api,
        PartnerBank.of(one.ledger) as bank,
        progress_bar(f"{one.ledger}: rows") as (begin, advance),
    ):
        manifest = one.run(api, bank, begin, advance)
    if as_json:
        click.echo(json.dumps(manifest, indent=2))
    else:
        click.echo(_summary(manifest))
        click.echo(f"Manifest: {one.record.manifest_path}")


def _summary(manifest: dict[str, Any]) -> str:
    quarantined = ", ".join(f"{count:,} {why}" for why, count in manifest["quarantined"].items())
    return (
        f"{manifest['ledger']}: {manifest['posted']:,} of {manifest['rows']:,} rows posted in "
        f"{manifest['seconds']:.1f} s ({manifest['rows_known_before']:,} were known); quarantine: "
        f"{quarantined or 'none'}; {manifest['accounts']:,} accounts; rounding took "
        f"{manifest['residual_minor_total']} minor units of {manifest['source_amount_total']} "
        f"{manifest['currency']}; {manifest['stated_balances']:,} balances stated"
    )
