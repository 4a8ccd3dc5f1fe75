"""Raw files of partners, kept as they came: bank statements name people, so they are sealed too."""

from __future__ import annotations

from typing import NamedTuple

from ledger_service.contract.identifiers import refuse_personal
from ledger_service.parties import seal
from ledger_service.parties.errors import PartyRefusal
from ledger_service.parties.registry import Connection


class StoredFile(NamedTuple):
    """A file in the vault. `duplicate`: the same bytes were stored before, under the same id."""

    file: str
    duplicate: bool


async def store_file(connection: Connection, content: bytes, kind: str, source: str) -> StoredFile:
    """Keep `content`. `kind` is a code (`bai2`, `camt.053`), `source` who sent it (a bank's code).

    Errors: `personal_data_refused` for a kind or source that looks personal.
    """
    refuse_personal(kind, "file's kind")
    refuse_personal(source, "file's source")
    file_id = f"file_{seal.letters(seal.keyed_hash('file', content))}"
    key = seal.new_key()
    stored = await connection.fetchval(
        """insert into vault.file (file_id, kind, source, key_id, wrapped_key, sealed)
           values ($1, $2, $3, $4, $5, $6) on conflict (file_id) do nothing returning file_id""",
        file_id,
        kind,
        source,
        *seal.wrap(key, file_id),
        seal.seal(key, content, file_id),
    )
    return StoredFile(file_id, duplicate=stored is None)


async def read_file(connection: Connection, file_id: str) -> bytes:
    """The bytes as they came. Errors: `unknown_file`; `SealBroken` where they were changed."""
    row = await connection.fetchrow(
        "select key_id, wrapped_key, sealed from vault.file where file_id = $1", file_id
    )
    if row is None:
        raise PartyRefusal("unknown_file", "There is no such file in the vault.")
    key = seal.unwrap(row["key_id"], bytes(row["wrapped_key"]), file_id)
    return seal.open_sealed(key, bytes(row["sealed"]), file_id)
