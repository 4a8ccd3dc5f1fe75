"""`tally statements`: fetch, import and list statements of partner banks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import click
import httpx

from ledger_service.contract import environment
from ledger_service.rails.api_errors import ApiRefusedError, ApiUnavailableError, raise_for
from ledger_service.rails.bank_client import BankClient, BankUnavailableError
from ledger_service.rails.sandbox_bank import NAME as SANDBOX_BANK


class NoSuchFileError(Exception):
    """A file that a command names is not there."""

    code = "no_such_file"


class StatementsApi:
    """The statement routes of the ledger API, as a client sees them."""

    def __init__(self) -> None:
        self._http = httpx.Client(
            base_url=environment.read("TALLYSTICK_API_URL"),
            headers={"authorization": f"Bearer {environment.read('TALLYSTICK_API_KEY')}"},
            timeout=120,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._http.close()

    def _call(self, method: str, target: str, **arguments: Any) -> Any:
        try:
            return raise_for(self._http.request(method, target, **arguments)).json()
        except httpx.HTTPError as error:
            raise ApiUnavailableError(self._http.base_url, error) from None

    def send(self, raw: bytes, bank: str) -> dict[str, Any]:
        """Import one file. Errors: ApiUnavailableError, ApiRefusedError (`bad_statement`)."""
        headers = {"content-type": "application/octet-stream"}
        return self._call(
            "POST", "/v1/statements", params={"bank": bank}, content=raw, headers=headers
        )

    def files(self) -> Iterator[dict[str, Any]]:
        """Every file that was taken. Errors as `send`."""
        after = ""
        while page := self._call("GET", "/v1/statements", params={"after": after})["files"]:
            yield from page
            after = page[-1]["sha256"]


@click.group()
def statements() -> None:
    """Statements of partner banks."""


@statements.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def fetch(as_json: bool) -> None:
    """Fetch from the partner bank what is new, and import it. May be stopped and run again."""
    bank = BankClient.from_environment()
    if bank is None:
        raise BankUnavailableError("Set TALLYSTICK_BANK_URL: no partner bank is configured.")
    totals = {"files": 0, "statements": 0, "lines": 0, "quarantined": 0}
    refused: list[dict[str, Any]] = []
    with bank, StatementsApi() as api:
        # What the ledger has is the position; nothing is remembered here that could be wrong.
        settled = {file["sha256"] for file in api.files() if not file["quarantined"]}
        for issued in bank.statements():
            if issued["sha256"] in settled:
                continue
            try:
                done = api.send(bank.statement(issued["id"]), SANDBOX_BANK)
            except ApiRefusedError as error:
                if error.code != "bad_statement":
                    raise
                refused.append({"statement": issued["id"], "reason": str(error)})
                continue
            totals["files"] += 1
            totals["statements"] += done["statements"]
            totals["lines"] += done["lines"]
            totals["quarantined"] += len(done["quarantined"])
    if as_json:
        click.echo(json.dumps({**totals, "refused": refused}))
    else:
        click.echo(
            f"{totals['files']} files: {totals['statements']} statements, {totals['lines']} lines, "
            f"{totals['quarantined']} in quarantine, {len(refused)} refused"
        )
        for item in refused:
            click.echo(f"statement {item['statement']}: {item['reason']}", err=True)
    if refused:
        sys.exit(1)


@statements.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--bank", default=SANDBOX_BANK, show_default=True, help="Code of the bank that sent it."
)
def import_file(file: Path, bank: str) -> None:
    """Import one BAI2 or camt.053 FILE."""
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise NoSuchFileError(f"{file} can't be read ({error.strerror}); check the path.") from None
    with StatementsApi() as api:
        click.echo(json.dumps(api.send(raw, bank), indent=2))


@statements.command("list")
def list_files() -> None:
    """List the files that were taken."""
    with StatementsApi() as api:
        for file in sorted(api.files(), key=lambda one: one["received_at"]):
            click.echo(
                f"{file['received_at'][:19]}  {file['bank']:<14} {file['format']:<9} "
                f"{file['imported']:>6} of {file['statements']} statements, "
                f"{file['quarantined']} in quarantine  {file['file']}"
            )
