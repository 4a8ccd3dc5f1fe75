"""`tally simulate`: make and post traffic with planted findings."""

from __future__ import annotations

import datetime as dt

import click


@click.command()
@click.option("--ledger", default="simulated", show_default=True, help="Ledger to post into.")
@click.option("--customers", default=400, show_default=True, type=click.IntRange(min=60))
@click.option("--days", default=90, show_default=True, type=click.IntRange(min=45))
@click.option(
    "--start",
    type=click.DateTime(["%Y-%m-%d"]),
    default="2026-07-01",
    show_default=True,
    help="First day; the last one may not lie in the future.",
)
@click.option("--seed", default=7, show_default=True, help="The same seed, the same traffic.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer key.")
def simulate(
    *, ledger: str, customers: int, days: int, start: dt.datetime, seed: int, as_json: bool
) -> None:
    """Make traffic of our own. May be stopped and run again; nothing doubles."""
    from ledger_service.contract import environment
    from ledger_service.contract.identifiers import check_ledger
    from ledger_service.loading.ledger_client import LedgerClient
    from ledger_service.loading.partner_bank import PartnerBank
    from ledger_service.loading.progress_bar import progress_bar
    from ledger_service.simulator.run import Simulation, SimulationError, summary
    from ledger_service.simulator.scenario import Settings, make

    settings = Settings(check_ledger(ledger), customers, days, start.date(), seed)
    last_day = settings.start + dt.timedelta(days=days - 1)
    if last_day > dt.datetime.now(dt.UTC).date():
        raise SimulationError(
            "ends_in_future",
            f"The simulation would end on {last_day}, and a ledger posts nothing that lies ahead; "
            "choose an earlier --start or fewer --days.",
        )
    with (
        LedgerClient(ledger) as api,
        PartnerBank.of(ledger) as bank,
        progress_bar(f"{ledger}: transactions") as (begin, advance),
    ):
        api.check()
        scenario = make(settings, bank.fbo_number)
        begin(len(scenario.steps))
        simulation = Simulation(scenario, environment.home())
        key = simulation.run(api, bank, advance)
    if as_json:
        click.echo(simulation.key_path.read_text())
    else:
        click.echo(summary(key))
        click.echo(f"Answer key: {simulation.key_path}")
