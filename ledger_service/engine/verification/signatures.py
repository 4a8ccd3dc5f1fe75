"""Checkpoints and cosignatures: held to the tree while it grows, so memory stays bounded."""

from __future__ import annotations

import datetime as dt
from typing import Self

from ledger_service.engine import checkpoints
from ledger_service.engine.checkpoints import Checkpoint, CheckpointError
from ledger_service.engine.merkle import Tree
from ledger_service.engine.verification.report import Row, Scope

_SIGNED = """
  select c.size, c.root, c.note, s.line, s.witness
    from ledger.checkpoint c left join ledger.cosignature s using (ledger, size)
   where c.ledger = %(ledger)s and c.size > %(after)s
   order by c.size, s.witness
"""
_ORPHANS = """
  select s.size, s.witness from ledger.cosignature s
   where s.ledger = %(ledger)s and s.size > %(after)s and not exists
     (select from ledger.checkpoint c where c.ledger = s.ledger and c.size = s.size)
   limit 20
"""
COSIGNED_WITHIN = dt.timedelta(minutes=10)
"""How long a checkpoint may wait for its cosignature: a witness may be restarted."""
_NOT_COSIGNED = """
  select count(*) as missing, min(c.size) as size, min(c.created_at) as since
    from ledger.checkpoint c
   where c.ledger = %(ledger)s and c.created_at < now() - %(within)s
     and c.size > case when %(after)s = 0 then 0 else coalesce(
       (select max(size) from ledger.cosignature where ledger = %(ledger)s), 0) end
     and not exists
       (select from ledger.cosignature s where s.ledger = c.ledger and s.size = c.size)
"""


def check_cosigned(scope: Scope) -> None:
    """Every checkpoint is cosigned, but the newest, which may still be waiting.

    Incrementally, those behind the last one that is: a witness takes them in order. Without a
    witness's key none is expected.
    """
    if scope.keys.witness is None:
        return
    parameters = {**scope.parameters, "within": COSIGNED_WITHIN}
    row = scope.connection.execute(_NOT_COSIGNED, parameters).fetchone()
    if row["missing"]:
        message = f"{row['missing']} checkpoints since {row['since']:%Y-%m-%d %H:%M:%S%z} from this size on"
        scope.add(
            "ledger.cosignature", "not_cosigned", message, seq=row["size"], row=str(row["size"])
        )


class SignedSizes:
    """The checkpoints behind `scope.after`, met in the order of their sizes."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._sound_until = scope.after
        self._cursor = scope.connection.cursor("signed")
        self._cursor.itersize = 200
        self._cursor.execute(_SIGNED, scope.parameters)
        self._next: Row | None = self._cursor.fetchone()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cursor.close()

    def reached(self, tree: Tree) -> None:
        """The tree has this size now: check what was signed at it."""
        while self._next is not None and self._next["size"] <= tree.size:
            row = self._next
            note = self._note(row)
            if note is not None and (row["size"], row["root"]) != (tree.size, tree.root()):
                message = f"an event from {self._sound_until + 1} to {tree.size} is not as signed"
                self._add("root_differs", message, row)
            elif note is not None:
                self._sound_until = tree.size
            self._next = self._cursor.fetchone()

    def finish(self) -> None:
        """The journal ends here: what is signed beyond it was signed for events that are gone."""
        while self._next is not None:
            self._add("beyond_journal", "more events were signed than there are", self._next)
            self._next = self._cursor.fetchone()
        for row in self._scope.connection.execute(_ORPHANS, self._scope.parameters):
            name, message = f"{row['size']} {row['witness']}", "there is no such checkpoint"
            self._scope.add("ledger.cosignature", "no_checkpoint", message, row=name)

    def _add(self, code: str, message: str, row: Row) -> None:
        size = row["size"]
        self._scope.add("ledger.checkpoint", code, message, seq=size, row=str(size))

    def _note(self, row: Row) -> Checkpoint | None:
        """The note, if it is what its row says and its signatures hold."""
        keys, size = self._scope.keys, row["size"]
        try:
            note = checkpoints.parse(row["note"])
            if keys.log is not None:
                checkpoints.verify(row["note"], keys.log)
        except CheckpointError as error:
            self._add("bad_signature", str(error), row)
            return None
        if (note.size, note.root) != (size, row["root"]) or (
            note.origin.rpartition("/")[2] != self._scope.ledger
        ):
            self._add("note_differs", "note and row differ", row)
            return None
        if row["line"] is not None and keys.witness is not None:
            try:
                checkpoints.verify_cosignature(note, row["line"], row["witness"], keys.witness)
            except CheckpointError as error:
                name = f"{size} {row['witness']}"
                self._scope.add(
                    "ledger.cosignature", "bad_signature", str(error), seq=size, row=name
                )
        return note
