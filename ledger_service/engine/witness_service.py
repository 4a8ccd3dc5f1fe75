"""The witness: a process of its own that signs only what continues what it has signed.

It asks the API for checkpoints, demands a consistency proof from the last one it saw, remembers the
new one in its own folder, and only then adds its signature. A checkpoint that does not continue the
last one is refused: /readyz turns 503 and stays so, because history was rewritten.

Settings: TALLYSTICK_API_URL, TALLYSTICK_API_KEY, TALLYSTICK_WITNESS_KEY, TALLYSTICK_LOG_PUBLIC_KEY,
TALLYSTICK_LOG_ORIGIN, TALLYSTICK_HEALTH_LISTEN.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import httpx
import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger_service.contract import environment, logs
from ledger_service.contract.identifiers import LEDGER
from ledger_service.contract.service import Health, stop_on_signals
from ledger_service.contract.snapshots import write_atomically
from ledger_service.engine import checkpoints
from ledger_service.engine.checkpoints import Checkpoint, CheckpointError
from ledger_service.engine.proofs import ProofError, check_consistency

log = structlog.get_logger()
INTERVAL_S = 1.0


class Seen(msgspec.Struct, frozen=True):
    """The last checkpoint of one ledger that was found consistent."""

    size: int
    root: str
    """Base64."""


class Witness:
    """Looks at every ledger's newest checkpoint and cosigns it, or refuses it."""

    def __init__(
        self, api: httpx.Client, key: Ed25519PrivateKey, log_key: bytes, origin: str, store: Path
    ) -> None:
        self._api = api
        self._key = key
        self._log_key = log_key
        self._origin = origin
        self._store = store
        self.name = f"{origin}/witness"
        self.refused: dict[str, str] = {}
        """Ledgers whose history does not hold, and why."""
        self.cosigned: dict[str, int] = {}

    def look(self) -> None:
        """Look at every ledger once. Errors: `httpx.HTTPError` while the API does not answer."""
        answer = self._api.get("/v1/ledgers")
        answer.raise_for_status()
        for item in answer.json()["ledgers"]:
            ledger = item["ledger"]
            if not LEDGER.match(ledger):
                continue
            try:
                self.look_at(ledger)
            except (CheckpointError, ProofError) as error:
                if ledger not in self.refused:
                    log.error("witness.checkpoint_refused", ledger=ledger, reason=str(error))  # noqa: TRY400 - no trace in a verdict
                self.refused[ledger] = str(error)

    def look_at(self, ledger: str) -> None:
        """Cosign a ledger's newest checkpoint. Errors: `CheckpointError`, `ProofError`: refused."""
        answer = self._api.get(f"/v1/ledgers/{ledger}/checkpoints/latest")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return
        answer.raise_for_status()
        checkpoint = checkpoints.verify(answer.text, self._log_key)
        if checkpoint.origin != f"{self._origin}/{ledger}":
            raise CheckpointError(f"the checkpoint is of {checkpoint.origin}")
        self._demand_consistency(ledger, checkpoint)
        self._remember(ledger, checkpoint)
        if self.cosigned.get(ledger) == checkpoint.size:
            return
        line = checkpoints.cosign(checkpoint, self.name, self._key, checkpoints.now())
        path = f"/v1/ledgers/{ledger}/checkpoints/{checkpoint.size}/cosignatures"
        self._api.post(path, content=line.encode()).raise_for_status()
        self.cosigned[ledger] = checkpoint.size

    def _demand_consistency(self, ledger: str, checkpoint: Checkpoint) -> None:
        seen = self._seen(ledger)
        if seen is None:
            return
        proof: list[bytes] = []
        if checkpoint.size > seen.size:
            answer = self._api.get(
                f"/v1/ledgers/{ledger}/proofs/consistency",
                params={"first": seen.size, "second": checkpoint.size},
            )
            answer.raise_for_status()
            proof = [base64.b64decode(node) for node in answer.json()["proof"]]
        root = base64.b64decode(seen.root)
        check_consistency(seen.size, checkpoint.size, root, checkpoint.root, proof)

    def _seen(self, ledger: str) -> Seen | None:
        try:
            return msgspec.json.decode((self._store / f"{ledger}.json").read_bytes(), type=Seen)
        except FileNotFoundError:
            return None

    def _remember(self, ledger: str, checkpoint: Checkpoint) -> None:
        seen = Seen(checkpoint.size, base64.b64encode(checkpoint.root).decode())
        if seen != self._seen(ledger):
            content = json.dumps(msgspec.to_builtins(seen)).encode()
            write_atomically(self._store / f"{ledger}.json", content)


def main() -> None:
    """Run until SIGTERM."""
    logs.configure("witness", environment.read("TALLYSTICK_LOG_LEVEL"))
    stop = stop_on_signals()
    health = Health()
    health.serve(*environment.host_and_port("TALLYSTICK_HEALTH_LISTEN"))
    token = environment.read("TALLYSTICK_API_KEY")
    with httpx.Client(
        base_url=environment.read("TALLYSTICK_API_URL"),
        headers={"Authorization": f"Bearer {token}"},
        timeout=10,
    ) as api:
        witness = Witness(
            api,
            checkpoints.read_private_key("TALLYSTICK_WITNESS_KEY"),
            base64.b64decode(environment.read("TALLYSTICK_LOG_PUBLIC_KEY"), validate=True),
            environment.read("TALLYSTICK_LOG_ORIGIN"),
            environment.home() / "witness",
        )
        while not stop.is_set():
            try:
                witness.look()
                health.report(
                    ready=not witness.refused, cosigned=witness.cosigned, refused=witness.refused
                )
            except httpx.HTTPError as error:
                health.report(ready=False, api=type(error).__name__)
                log.warning("witness.api_unreachable", error=type(error).__name__)
            stop.wait(INTERVAL_S)
