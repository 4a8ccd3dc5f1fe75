"""The witness: a process of its own that signs only what continues what it has signed.

It takes the published checkpoints in order of size, for it never signs a smaller tree than its latest
(C2SP tlog-witness): none is passed over, whether it was away or they came quickly. Of each it demands
a consistency proof from the one before, remembers it in its own folder, and only then adds its
signature. A checkpoint that does not continue the last one is refused, and those after it wait:
/readyz turns 503 and stays so, also after a restart, because history was rewritten. Both notes are
kept as evidence: two statements of one log that contradict each other, each signed. It signs nothing
more for that ledger until a person has looked and removed `<ledger>.refused.json`.

Settings: TALLYSTICK_API_URL, TALLYSTICK_API_KEY, TALLYSTICK_WITNESS_KEY, TALLYSTICK_LOG_PUBLIC_KEY,
TALLYSTICK_LOG_ORIGIN, TALLYSTICK_HEALTH_LISTEN.
"""

from __future__ import annotations

import base64
import fcntl
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
PAGE = 100
"""Checkpoints of one ledger that are taken before the next ledger has its turn; more than one, as
each page begins with the last one seen."""
_EVIDENCE = ".refused.json"


class Seen(msgspec.Struct, frozen=True):
    """The last checkpoint of one ledger that was found consistent."""

    size: int
    root: str
    """Base64."""
    note: str = ""
    """As the log signed it."""


class Refusal(msgspec.Struct, frozen=True):
    """An alarm: `tree_shrunk`, `tree_forked`, `history_rewritten`, `no_proof`, `bad_checkpoint`."""

    code: str
    reason: str
    note: str
    """What was refused."""
    seen: Seen | None
    """What it contradicts."""


class RefusedError(Exception):
    """A checkpoint that must not be cosigned."""

    def __init__(self, code: str, reason: str, note: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code, self.reason, self.note = code, reason, note


class Witness:
    """Cosigns every checkpoint of every ledger, in order of size, up to one that it refuses."""

    def __init__(
        self, api: httpx.Client, key: Ed25519PrivateKey, log_key: bytes, origin: str, store: Path
    ) -> None:
        self._api = api
        self._key = key
        self._log_key = log_key
        self._origin = origin
        self._store = store
        self.name = f"{origin}/witness"
        self.refused: dict[str, str] = {
            path.name.removesuffix(_EVIDENCE): self._evidence(path)
            for path in sorted(store.glob(f"*{_EVIDENCE}"))
        }
        """Ledgers whose history does not hold, and the alarm's name."""
        self.cosigned: dict[str, int] = {}
        """The size whose cosignature the API took last, since this process began."""

    def look(self) -> list[str]:
        """Take a page of each ledger's checkpoints; gives the ledgers that may have more.

        Errors: `httpx.HTTPError` while the API does not answer.
        """
        behind: list[str] = []
        answer = self._api.get("/v1/ledgers")
        answer.raise_for_status()
        for item in answer.json()["ledgers"]:
            ledger = item["ledger"]
            if not LEDGER.match(ledger) or ledger in self.refused:
                continue
            try:
                if self.look_at(ledger):
                    behind.append(ledger)
            except RefusedError as error:
                self._refuse(ledger, error)
        return behind

    def _refuse(self, ledger: str, error: RefusedError) -> None:
        log.error("witness.checkpoint_refused", ledger=ledger, code=error.code, reason=error.reason)
        refusal = Refusal(error.code, error.reason, error.note, self._seen(ledger))
        content = msgspec.json.format(msgspec.json.encode(refusal))
        write_atomically(self._store / f"{ledger}{_EVIDENCE}", content)
        self.refused[ledger] = error.code

    @staticmethod
    def _evidence(path: Path) -> str:
        code = msgspec.json.decode(path.read_bytes(), type=Refusal).code
        log.error("witness.still_refused", evidence=path.name, code=code)
        return code

    def look_at(self, ledger: str) -> bool:
        """Cosign the next page of a ledger's checkpoints; whether there may be more.

        Errors: `RefusedError`.
        """
        seen = self._seen(ledger)
        answer = self._api.get(
            f"/v1/ledgers/{ledger}/checkpoints",
            # From the last one seen: is it the same still, and is its cosignature there?
            params={"after_size": seen.size - 1 if seen else 0, "limit": PAGE},
        )
        answer.raise_for_status()
        page = answer.json()
        if seen and not page["checkpoints"]:
            self._demand_no_smaller(ledger)
        for item in page["checkpoints"]:
            self._cosign(ledger, item["size"], item["note"])
        return page["next_after_size"] is not None

    def _demand_no_smaller(self, ledger: str) -> None:
        """What was signed is published no more: is the newest that is left a smaller tree?"""
        answer = self._api.get(f"/v1/ledgers/{ledger}/checkpoints/latest")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return
        answer.raise_for_status()
        self._demand_consistency(ledger, self._verified(ledger, answer.text), answer.text)

    def _cosign(self, ledger: str, size: int, note: str) -> None:
        checkpoint = self._verified(ledger, note)
        if checkpoint.size != size:
            reason = f"the checkpoint of {checkpoint.size} events is published as of {size}"
            raise RefusedError("bad_checkpoint", reason, note)
        self._demand_consistency(ledger, checkpoint, note)
        self._remember(ledger, checkpoint, note)
        if self.cosigned.get(ledger) == size:
            return
        line = checkpoints.cosign(checkpoint, self.name, self._key, checkpoints.now())
        path = f"/v1/ledgers/{ledger}/checkpoints/{size}/cosignatures"
        self._api.post(path, content=line.encode()).raise_for_status()
        self.cosigned[ledger] = size

    def _verified(self, ledger: str, note: str) -> Checkpoint:
        try:
            checkpoint = checkpoints.verify(note, self._log_key)
        except CheckpointError as error:
            raise RefusedError("bad_checkpoint", str(error), note) from None
        if checkpoint.origin != f"{self._origin}/{ledger}":
            reason = f"the checkpoint is of {checkpoint.origin}"
            raise RefusedError("bad_checkpoint", reason, note)
        return checkpoint

    def _demand_consistency(self, ledger: str, checkpoint: Checkpoint, note: str) -> None:
        seen = self._seen(ledger)
        if seen is None:
            return
        if checkpoint.size < seen.size:
            reason = f"{seen.size} events were signed before, {checkpoint.size} now"
            raise RefusedError("tree_shrunk", reason, note)
        proof: list[bytes] = []
        if checkpoint.size > seen.size:
            answer = self._api.get(
                f"/v1/ledgers/{ledger}/proofs/consistency",
                params={"first": seen.size, "second": checkpoint.size},
            )
            if answer.is_client_error:
                reason = f"no proof that it continues the tree of {seen.size} events"
                raise RefusedError("no_proof", reason, note)
            answer.raise_for_status()
            proof = [base64.b64decode(node) for node in answer.json()["proof"]]
        root = base64.b64decode(seen.root)
        try:
            check_consistency(seen.size, checkpoint.size, root, checkpoint.root, proof)
        except ProofError as error:
            code = "tree_forked" if checkpoint.size == seen.size else "history_rewritten"
            raise RefusedError(code, str(error), note) from None

    def _seen(self, ledger: str) -> Seen | None:
        try:
            return msgspec.json.decode((self._store / f"{ledger}.json").read_bytes(), type=Seen)
        except FileNotFoundError:
            return None

    def _remember(self, ledger: str, checkpoint: Checkpoint, note: str) -> None:
        seen = Seen(checkpoint.size, base64.b64encode(checkpoint.root).decode(), note)
        before = self._seen(ledger)
        if before is None or seen.size > before.size:
            content = json.dumps(msgspec.to_builtins(seen)).encode()
            write_atomically(self._store / f"{ledger}.json", content)


def main() -> None:
    """Run until SIGTERM. One process for a folder: two would each sign on from what it read last."""
    logs.configure("witness", environment.read("TALLYSTICK_LOG_LEVEL"))
    stop = stop_on_signals()
    health = Health()
    health.serve(*environment.host_and_port("TALLYSTICK_HEALTH_LISTEN"))
    token = environment.read("TALLYSTICK_API_KEY")
    store = environment.home() / "witness"
    store.mkdir(parents=True, exist_ok=True)
    with (
        (store / ".lock").open("w") as lock,
        httpx.Client(
            base_url=environment.read("TALLYSTICK_API_URL"),
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
        ) as api,
    ):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"another witness has the folder {store}") from None
        witness = Witness(
            api,
            checkpoints.read_private_key("TALLYSTICK_WITNESS_KEY"),
            base64.b64decode(environment.read("TALLYSTICK_LOG_PUBLIC_KEY"), validate=True),
            environment.read("TALLYSTICK_LOG_ORIGIN"),
            store,
        )
        while not stop.is_set():
            behind: list[str] = []
            try:
                behind = witness.look()
                health.report(
                    ready=not witness.refused,
                    cosigned=witness.cosigned,
                    refused=witness.refused,
                    behind=behind,
                )
            except httpx.HTTPError as error:
                health.report(ready=False, api=type(error).__name__)
                log.warning("witness.api_unreachable", error=type(error).__name__)
            if not behind:
                stop.wait(INTERVAL_S)
