"""Named places at which a test can kill a service or make it fail.

A service calls `reach` at each place. Nothing happens there unless TALLYSTICK_FAILPOINTS named the
place when the service started, and a service outside of demo and test refuses to start with that.
The setting reads `commit.in_flight=kill@3,lease.renewed=error`: what to do, and from which time on.
"""

from __future__ import annotations

import os
import signal
import time

from ledger_service.contract import environment

POINTS: dict[str, str] = {
    "submit.before_send": "API: a submission is ready, the writer has not got it",
    "submit.after_send": "API: the writer has got it, nobody has heard its answer",
    "submit.after_verdicts": "API: the verdicts are here, the caller has not got them",
    "commit.before_begin": "writer: a batch is decided, its transaction has not begun",
    "commit.in_flight": "writer: the batch is sent as one statement, its end is not known",
    "commit.before_commit": "writer: a batch of several statements is written, COMMIT is not sent",
    "commit.after_commit": "writer: the batch is durable, nobody knows",
    "answer.before": "writer: verdicts are settled, the answer has not left",
    "answer.after": "writer: the answer has left",
    "follow.before_commit": "writer: the history is written for some batches, COMMIT is not sent",
    "follow.after_commit": "writer: the history stands behind some batches, nobody knows",
    "lease.before": "writer: about to take or renew a lease",
    "lease.after": "writer: the lease is renewed",
    "takeover.before": "writer: the epoch is about to be raised",
    "takeover.after": "writer: the epoch is raised, nothing is read back",
    "checkpoint.before": "writer: about to sign and store a checkpoint",
    "checkpoint.after": "writer: the checkpoint is stored",
    "relay.before_send": "relay: events are read, Kafka has none of them",
    "relay.before_commit": "relay: events are sent, their transaction is open",
    "relay.after_commit": "relay: the transaction is committed, the position is not noted",
    "raw.before_write": "pipeline: events are read, no raw file holds them",
    "raw.before_name": "pipeline: a raw file is written, it has no name",
    "raw.after_name": "pipeline: a raw file has its name, no manifest names it",
    "raw.before_commit": "pipeline: raw files of a step are there, the manifest is the old one",
    "raw.after_commit": "pipeline: the manifest names the raw files, nothing is typed",
    "typed.before_write": "pipeline: rows are parsed, no typed file holds them",
    "typed.before_name": "pipeline: a typed file is written, it has no name",
    "typed.after_name": "pipeline: a typed file has its name, no manifest names it",
    "typed.before_commit": "pipeline: typed files are there, the manifest is the old one",
    "typed.after_commit": "pipeline: the manifest names the typed files, dbt does not see them",
    "quarantine.before_write": "pipeline: events are found bad, no file says so",
    "quarantine.before_name": "pipeline: bad events are written down, the file has no name",
    "quarantine.after_name": "pipeline: the file of bad events has its name, no manifest names it",
    "compaction.before_commit": "pipeline: joined files are there, the manifest names the small ones",
    "compaction.after_commit": "pipeline: the manifest names joined files, the small ones are there",
    "archive.before_copy": "pipeline: a raw file is to go to the archive, it is here only",
    "archive.after_copy": "pipeline: a raw file is in both places, the manifest says here",
    "archive.after_commit": "pipeline: the manifest says archive, the files are in both places",
    "sweep.before_remove": "pipeline: it is known what the manifest does not name, all is there",
    "sweep.after_remove": "pipeline: what the manifest does not name is gone",
    "replace.before_rename": "pipeline: a manifest or pointer is written, it has not taken its place",
    "dbt.before_run": "pipeline: dbt can see what is new, the marts lack it",
    "dbt.after_run": "pipeline: the marts are built, it is not noted from what",
    "dbt.after_note": "pipeline: the marts are built and it is noted from what",
    "checks.after": "pipeline: the checks are done, nothing is published",
    "part.before_write": "pipeline: a part of a mart has changed, no file holds it",
    "part.before_name": "pipeline: a part is written, it has no name",
    "part.after_name": "pipeline: a part has its name, no manifest names it",
    "snapshot.before_manifest": "pipeline: all parts are there, no manifest names them",
    "snapshot.before_pointer": "pipeline: the manifest is there, the pointer names the last one",
    "snapshot.after_pointer": "pipeline: the pointer is switched, nobody was told",
    "prune.before_manifests": "pipeline: old snapshots are to go, all of them are there",
    "prune.before_parts": "pipeline: old manifests are gone, their parts are there",
    "prune.after": "pipeline: parts that no manifest names are gone",
}
"""Every place: who passes it, and what has happened there and what has not."""
ACTIONS = ("kill", "error", "pause")
PAUSE_S = 0.2
_armed: dict[str, tuple[str, int]] = {}
"""Action, and how many times the place is passed before it."""


class FailpointError(RuntimeError):
    """What an armed place raises."""


def arm(text: str) -> None:
    """Arm the places that `text` names. Errors: ValueError for a place or action not listed."""
    _armed.clear()
    for item in filter(None, text.split(",")):
        point, _, rest = item.partition("=")
        action, _, times = rest.partition("@")
        if point not in POINTS or action not in ACTIONS or not (times or "1").isdigit():
            raise ValueError(f"{item!r} is no failpoint; write e.g. commit.in_flight=kill@3")
        _armed[point] = action, int(times or "1")


def arm_from_environment() -> None:
    """Arm what the environment names. Errors: ValueError, and outside of demo and test always."""
    text = environment.read("TALLYSTICK_FAILPOINTS")
    if text and environment.read("TALLYSTICK_ENV") not in ("demo", "test"):
        raise ValueError(
            "TALLYSTICK_FAILPOINTS kills this service on purpose; it is taken only where "
            "TALLYSTICK_ENV is demo or test. Unset it."
        )
    arm(text)


def reach(point: str) -> None:
    """Pass a place; where it is armed and its time has come, do what was asked."""
    if _armed:
        _act(point)


def _act(point: str) -> None:
    action, left = _armed.get(point, ("", 0))
    if not action:
        return
    if left > 1:
        _armed[point] = action, left - 1
        return
    os.write(2, f"failpoint {point} {action}\n".encode())
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "pause":
        time.sleep(PAUSE_S)
    else:
        raise FailpointError(point)
