"""The demo's last page, at most 25 lines, and its figures."""

from __future__ import annotations

import json
from typing import Any

import click

from ledger_service.contract.money import format_minor
from ledger_service.stack.demo import published
from ledger_service.stack.demo.score import Score
from ledger_service.stack.demo.visitor import identities
from ledger_service.stack.errors import StackError
from ledger_service.stack.home import Home


def figures(
    seconds: dict[str, float], score: Score, heads: dict[str, int], peak_mb: int
) -> dict[str, float]:
    """The demo as a flat object of names and numbers.

    `posted` and `quarantined` count the rows of the loaded file; without one, the simulated events.
    """
    load = next(iter(score.loads.values()), None)
    contradictions = next((one for one in score.breaks if one.ledger != "simulated"), None)
    result: dict[str, float] = {
        **{f"{room}_s": round(spent, 1) for room, spent in seconds.items()},
        "posted": load["posted"] if load else heads["simulated"],
        "quarantined": sum(load["quarantined"].values()) if load else 0,
        "posted_simulated": heads["simulated"],
        "alerts_true": sum(rule.true for rule in score.rules),
        "alerts_false": sum(rule.false for rule in score.rules),
        "alerts_missed": sum(rule.missed for rule in score.rules),
        "peak_rss_mb": peak_mb,
    }
    if contradictions:
        result["breaks_amlgentex"] = contradictions.found + contradictions.other
    for rule in score.rules:
        for name in ("planted", "true", "false", "missed"):
            result[f"{rule.ledger}_{rule.rule}_{name}"] = getattr(rule, name)
    return result


def show(
    home: Home, numbers: dict[str, float], score: Score, checks: list[tuple[str, bool]]
) -> None:
    """Print the page."""
    click.echo(click.style("\nTallystick: what was planted, and what was found", bold=True))
    for rule in score.rules:
        click.echo(
            f"  {rule.ledger:10s} {rule.rule:16s} planted {rule.planted:3d}  found {rule.found:3d}   "
            f"alerts: {rule.true} true, {rule.false} false, {rule.missed} missed"
        )
    for one in score.breaks:
        click.echo(
            f"  {one.ledger:10s} {'breaks':16s} planted {one.planted:3d}  found {one.found:3d}   "
            f"others: {one.other}"
        )
    for ledger, load in score.loads.items():
        refused = sum(load["quarantined"].values())
        click.echo(
            f"  {ledger:10s} {load['posted']:,} of {load['rows']:,} rows posted, {refused} in "
            f"quarantine; rounding took {load['residual_minor_total']} cents in all"
        )
    click.echo(f"  FBO: {_fbo_line(home)}")
    failed = [name for name, held in checks if not held]
    click.echo(
        f"  Checks: {len(checks) - len(failed)} of {len(checks)} hold"
        + (f"; FAILED: {', '.join(failed)}" if failed else "")
    )
    rooms = ", ".join(
        f"{name.removesuffix('_s')} {spent:.0f} s"
        for name, spent in numbers.items()
        if name.endswith("_s")
    )
    click.echo(f"  Time: {rooms}; peak memory {numbers['peak_rss_mb']:,.0f} MB")
    users = identities(home)["users"]
    console = f"http://{home.address('console')}"
    click.echo(
        f"  Console {console} · API http://{home.address('api')} · sign-ins (all: tally identities show):"
    )
    click.echo(
        "    "
        + ", ".join(f"{name} / {users[name]['password']}" for name in ("carol", "olivia", "adam"))
    )
    _invite(console)


def _invite(console: str) -> None:
    click.echo(click.style("Five acts for you", bold=True))
    click.echo(
        f"  1 carol:  {console}/alerts?ledger=simulated: read why, follow an entry to its proof, close it"
    )
    click.echo(
        f"  2 olivia: {console}/reversals: approve your own request and be refused; then adam approves"
    )
    click.echo(
        f"  3 olivia: {console}/breaks?ledger=simulated: yesterday's break, both sides; then the PDF on {console}/fbo"
    )
    click.echo(
        "  4 make demo-kill      5 make demo-tamper      (tally demo acts plays all; tally down stops)"
    )


def _fbo_line(home: Home) -> str:
    row = published.rows(
        published.marts(home, "general"),
        "select * from reconciliation_days where ledger = 'simulated' order by statement_date desc limit 1",
    )[0]

    def money(column: str) -> str:
        return format_minor(int(row[column]), row["currency"])

    return (
        f"{row['statement_date']} bank {money('bank_closing')} = ledger {money('ledger_closing')} + "
        f"{money('difference_bank_ledger')} ({row['open_breaks']} breaks, {row['status']}); ledger = customers "
        f"{money('customers')} + in transit {money('in_transit')}"
    )


def print_figures(home: Home) -> None:
    """Print the last demo's figures as a table. Errors: `no_demo_yet`."""
    try:
        numbers: dict[str, Any] = json.loads((home / "bench" / "bench-demo.json").read_text())
    except FileNotFoundError:
        raise StackError("no_demo_yet", "There are no figures yet: run `make demo`.") from None
    for name, value in numbers.items():
        click.echo(f"{name:40s} {value:>14,}")
