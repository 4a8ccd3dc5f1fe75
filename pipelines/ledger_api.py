"""What the pipelines ask the ledger's API: the other road to a balance, and the checkpoint."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path
from typing import Any

import httpx

from ledger_service.contract import environment

TIMEOUT_S = 30.0
HOLDS_PAGE = 1000


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A signed statement of the ledger's size and root hash, as `tally verify` checks it."""

    origin: str
    size: int
    root: str
    """Base64."""


class LedgerApi:
    """The ledger over HTTP, as this service. Errors of all calls: `httpx.HTTPError`."""

    def __init__(self, base_url: str, key: str) -> None:
        self._client = httpx.Client(
            base_url=base_url, headers={"authorization": f"Bearer {key}"}, timeout=TIMEOUT_S
        )

    @classmethod
    def from_settings(cls) -> LedgerApi:
        """The API that the environment names. Errors: `MissingSetting`."""
        return cls(environment.read("TALLYSTICK_API_URL"), environment.read("TALLYSTICK_API_KEY"))

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def save_balances(self, ledger: str, at_seq: int, file: Path) -> None:
        """Every account's debits and credits as of `at_seq`, as NDJSON in `file`."""
        path = f"/v1/ledgers/{ledger}/balances"
        with self._client.stream("GET", path, params={"at_seq": at_seq}) as response:
            response.raise_for_status()
            with file.open("wb") as target:
                for chunk in response.iter_bytes():
                    target.write(chunk)

    def trial_balance(self, ledger: str, at_seq: int) -> list[dict[str, Any]]:
        """The trial balance's lines as of `at_seq`."""
        path = f"/v1/ledgers/{ledger}/trial-balance"
        response = self._client.get(path, params={"at_seq": at_seq})
        response.raise_for_status()
        return response.json()["lines"]

    def holds(
        self, ledger: str, *, state: str | None = None, before: int | None = None
    ) -> tuple[list[dict[str, Any]], int | None]:
        """A page of holds as they stand now, newest first, and the `before` of the next page."""
        asked = {"state": state, "before": before, "limit": HOLDS_PAGE}
        response = self._client.get(
            f"/v1/ledgers/{ledger}/holds",
            params={name: value for name, value in asked.items() if value is not None},
        )
        response.raise_for_status()
        page = response.json()
        return page["holds"], page["next_before"]

    def ledgers(self) -> list[str]:
        """The names of all open ledgers."""
        response = self._client.get("/v1/ledgers")
        response.raise_for_status()
        return [one["ledger"] for one in response.json()["ledgers"]]

    def posted_seq(self, ledger: str) -> int:
        """The `seq` of the ledger's last event."""
        response = self._client.get(f"/v1/ledgers/{ledger}/progress")
        response.raise_for_status()
        return response.json()["posted_seq"]

    def recorded_at(self, ledger: str, seq: int) -> dt.datetime | None:
        """When the ledger recorded its event `seq`; None where it has none yet."""
        response = self._client.get(f"/v1/ledgers/{ledger}/events/{seq}")
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        response.raise_for_status()
        return dt.datetime.fromisoformat(response.json()["recorded_at"])

    def latest_checkpoint(self, ledger: str) -> Checkpoint | None:
        """The newest checkpoint; None before the first. Errors: ValueError for a bad note."""
        response = self._client.get(f"/v1/ledgers/{ledger}/checkpoints/latest")
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        response.raise_for_status()
        lines = response.text.splitlines()
        if len(lines) < 3 or not lines[1].isdigit():
            raise ValueError(f"the checkpoint of {ledger} is not a signed note")
        return Checkpoint(origin=lines[0], size=int(lines[1]), root=lines[2])
