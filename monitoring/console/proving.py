"""What proves that an event stands in a ledger's signed history, checked by the console itself."""

from __future__ import annotations

import base64
import binascii
import time
from typing import Any

import msgspec
from fastapi import HTTPException, Request

from ledger_service.contract import events
from ledger_service.contract.identifiers import LEDGER
from monitoring import proofs
from monitoring.console.access import Person
from monitoring.console.ledger import Ledger, LedgerProblem

WITNESS_SECONDS = 3.0
"""How long a page waits for a cosignature that is on its way."""


class Check(msgspec.Struct, frozen=True):
    """One thing that was checked, and whether it holds."""

    text: str
    holds: bool
    note: str = ""


class Found(msgspec.Struct):
    """An event with what proves it; `failure` says in words why something is missing."""

    event: events.JournalEvent
    raw: bytes
    checkpoint: proofs.Checkpoint | None = None
    steps: list[proofs.Step] = []
    failure: str = ""

    def checks(self) -> list[Check]:
        """What was checked; nothing where there is no proof."""
        if self.checkpoint is None or self.failure:
            return []
        checkpoint, ledger = self.checkpoint, self.event.ledger
        root = self.steps[-1].result if self.steps else proofs.leaf_hash(self.raw)
        witness = next((item for item in checkpoint.signatures if item.kind == "witness"), None)
        return [
            Check(
                "The event’s hash leads to the root of the checkpoint",
                root == checkpoint.root,
                f"{len(self.steps)} steps, {checkpoint.size:,} events",
            ),
            Check(
                "The checkpoint is of this ledger",
                checkpoint.origin.endswith(f"/{ledger}"),
                checkpoint.origin,
            ),
            Check("The log’s key signed the checkpoint", checkpoint.signed_by("log"), "Ed25519"),
            Check(
                "The witness co-signed it",
                checkpoint.signed_by("witness"),
                f"{witness.name}, {witness.signed_at:%Y-%m-%d %H:%M:%S} UTC"
                if witness and witness.signed_at
                else "no cosignature of the known witness yet: it follows within seconds",
            ),
        ]


def find(request: Request, person: Person, ledger: str, seq: int) -> Found:
    """An event and its proof in the newest checkpoint.

    Errors: 404 for what can't be an event; `LedgerProblem`, `LedgerAway`.
    """
    if not LEDGER.match(ledger) or not 0 < seq < 2**63:
        raise HTTPException(404, "There is no such event.")
    api = Ledger(request.app.state.api, person.token)
    found = Found(*api.journal_event(ledger, seq))
    try:
        found.checkpoint = checkpoint = _checkpoint(api, ledger, request.app.state.settings.keys)
        if seq > checkpoint.size:
            found.failure = (
                f"The newest checkpoint covers {checkpoint.size:,} events, this is number {seq:,}. "
                "A new checkpoint is signed every few seconds: load this page again."
            )
            return found
        answer = api.get(f"/v1/ledgers/{ledger}/proofs/inclusion", seq=seq, size=checkpoint.size)
        found.steps = proofs.climb(
            proofs.leaf_hash(found.raw), seq - 1, checkpoint.size, _hashes(answer)
        )
    except proofs.ProofError as error:
        found.failure = str(error)
    except LedgerProblem as problem:
        if problem.status in (401, 403):
            raise
        found.failure = problem.detail
    return found


def root_check(
    request: Request, person: Person, closing: events.PeriodClosed, checkpoint: proofs.Checkpoint
) -> Check:
    """Whether the signed history begins with the events whose root a closing states."""
    api = Ledger(request.app.state.api, person.token)
    first, second = closing.tree_size, checkpoint.size
    try:
        answer = api.get(
            f"/v1/ledgers/{closing.ledger}/proofs/consistency", first=first, second=second
        )
        root = bytes.fromhex(closing.tree_root)
        holds = proofs.continues(first, root, second, checkpoint.root, _hashes(answer))
    except (ValueError, LedgerProblem):
        holds = False
    return Check(
        "The signed history begins with the events of that root", holds, f"{first:,} events"
    )


def _checkpoint(api: Ledger, ledger: str, keys: proofs.Keys) -> proofs.Checkpoint:
    """The newest checkpoint; one that was signed just now is given the time to be co-signed."""
    newest = proofs.read_checkpoint(api.text(f"/v1/ledgers/{ledger}/checkpoints/latest"), keys)
    deadline = time.monotonic() + WITNESS_SECONDS
    checkpoint = newest
    while not checkpoint.signed_by("witness") and keys.witness and time.monotonic() < deadline:
        time.sleep(0.25)
        note = api.text(f"/v1/ledgers/{ledger}/checkpoints/{newest.size}")
        checkpoint = proofs.read_checkpoint(note, keys)
    return checkpoint


def _hashes(answer: dict[str, Any]) -> list[bytes]:
    """The audit path of the API's answer, from the leaf up. Errors: `ProofError`."""
    try:
        return [base64.b64decode(item, validate=True) for item in answer["proof"]]
    except (KeyError, TypeError, binascii.Error) as error:
        raise proofs.ProofError("The ledger's proof can't be read.") from error
