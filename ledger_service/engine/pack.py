"""Packs: all that an auditor needs to check a ledger without us, as files.

`events.ndjson` (canonical bytes, a line each; line n is the event with seq n and leaf n - 1),
`checkpoint.txt` (the signed note with cosignatures, of exactly these events), `keys.json` (public
keys), `README.txt`.
"""

from __future__ import annotations

import json
from pathlib import Path

import psycopg

_README = """This is a pack of the ledger {ledger}: its first {size} events.

events.ndjson   one event a line, as it was recorded; line n is leaf n - 1 of the RFC 6962 tree
checkpoint.txt  the log's signed statement of size and root (C2SP tlog-checkpoint), cosigned
keys.json       public keys, for convenience: compare them with what you were given by other means

Check it: tally-verify THIS_FOLDER --state remembered.json
(or the one file behind that command, copied anywhere: python offline_verifier.py THIS_FOLDER ...)
"""


class PackError(ValueError):
    """A pack that can't be made; the message says what to do."""


def write_pack(url: str, ledger: str, folder: Path, *, log_key: str, witness_key: str) -> int:
    """Write a pack up to the newest checkpoint (cosigned, if any is); gives its size.

    Keys are public, in base64. Errors: `PackError`.
    """
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "select c.size, c.note, array(select line from ledger.cosignature s where "
            "s.ledger = c.ledger and s.size = c.size order by witness) as lines "
            "from ledger.checkpoint c where c.ledger = %s "
            "order by exists (select from ledger.cosignature s where s.ledger = c.ledger "
            "and s.size = c.size) desc, c.size desc limit 1",
            (ledger,),
        ).fetchone()
        if row is None:
            raise PackError(f"{ledger} has no checkpoint yet: is the writer running?")
        size, note, lines = row
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "events.ndjson").open("wb") as file, connection.cursor("pack") as cursor:
            cursor.itersize = 5000
            cursor.execute(
                "select bytes from ledger.journal where ledger = %s and seq <= %s order by seq",
                (ledger, size),
            )
            for (raw,) in cursor:
                file.write(raw + b"\n")
    (folder / "checkpoint.txt").write_text(note + "".join(f"{line}\n" for line in lines))
    (folder / "keys.json").write_text(
        json.dumps({"log": log_key, "witness": witness_key}, indent=2)
    )
    (folder / "README.txt").write_text(_README.format(ledger=ledger, size=size))
    return size
