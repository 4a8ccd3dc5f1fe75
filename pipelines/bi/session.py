"""One client of `tally run bi`: it signs in, asks, and is answered from the current snapshot.

Every query sees one snapshot from start to end; those of a transaction see the same one. Between them
the newest is opened, so that the address always serves what was published last.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import re
import secrets
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ledger_service.contract.snapshots import NotPublishedError, SnapshotName, read_manifest
from pipelines.bi import messages
from pipelines.bi.messages import Content, UnsupportedError
from pipelines.bi.scram import MECHANISM, AuthenticationError, Exchange
from pipelines.publication import reading
from pipelines.publication.tables import BATCH, Table

SNAPSHOT: SnapshotName = "general"
USER = "analyst"
VERSION = "PostgreSQL 15.0 (Tallystick, a read-only view of published snapshots)"
SIGN_IN_S = 10.0
LONGEST = 1 << 20
"""Bytes of a client's message."""
MEMORY_LIMIT = "512MB"
"""Of one client's queries; what needs more is written to a folder of its own."""
_TOLD = {
    "server_version": "15.0", "server_encoding": "UTF8", "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY", "TimeZone": "UTC", "integer_datetimes": "on",
    "standard_conforming_strings": "on", "is_superuser": "off",
}  # fmt: skip
"""What every client is told of the server as it signs in, and may ask for."""
_SETTINGS = {name.lower(): value for name, value in _TOLD.items()} | {
    "transaction isolation level": "repeatable read",
    "transaction_read_only": "on",
}
_TAGS = {
    "begin": "BEGIN", "start": "BEGIN", "commit": "COMMIT", "end": "COMMIT", "rollback": "ROLLBACK",
    "abort": "ROLLBACK", "set": "SET", "reset": "RESET", "discard": "DISCARD ALL",
    "deallocate": "DEALLOCATE", "close": "CLOSE CURSOR", "savepoint": "SAVEPOINT",
    "release": "RELEASE",
}  # fmt: skip
"""Statements about the session: they are acknowledged, and but for transactions change nothing."""
_VERSION = re.compile(r"select\s+(pg_catalog\.)?version\(\)", re.IGNORECASE)
_SHOW = re.compile(r"show\s+(.+)", re.IGNORECASE | re.DOTALL)
_STATES = {
    reading.NotAQueryError: "25006", reading.QueryError: "42000", NotPublishedError: "57P03",
    UnsupportedError: "0A000",
}  # fmt: skip
"""PostgreSQL's codes of our refusals."""


@dataclasses.dataclass
class Statement:
    """A text that was parsed, and the types that the client gave of its parameters."""

    sql: str
    oids: list[int]


@dataclasses.dataclass
class Portal:
    """A query under way: its columns, and the rows that are left."""

    tag: str | None
    """Of a statement about the session; None for a query."""
    table: Table
    sent: int = 0


class Session:
    """One connection, from its first byte to its last."""

    def __init__(
        self,
        snapshots: Path,
        password: str,
        client: asyncio.StreamReader,
        answer: asyncio.StreamWriter,
    ) -> None:
        self.key = secrets.token_bytes(4)
        """With its number, what a cancellation must show."""
        self._snapshots = snapshots
        self._password = password
        self._client = client
        self._answer = answer
        self._held = contextlib.ExitStack()
        self._reader: reading.Reader | None = None
        self._in_transaction = False
        self._statements: dict[str, Statement] = {}
        self._portals: dict[str, Portal] = {}
        self._interrupted = False
        self._skipping = False
        """After an error everything is skipped until the client's next Sync."""

    async def run(
        self, enter: Callable[[Session], int | None], cancel: Callable[[int, bytes], None]
    ) -> None:
        """Serve until the client leaves. `enter` gives a number to who has signed in, unless there
        are too many; `cancel` ends the query of a session that is named by number and key.
        """
        try:
            async with asyncio.timeout(SIGN_IN_S):
                if not await self._sign_in(enter, cancel):
                    return
            while (kind := await self._client.readexactly(1)) != b"X":
                await self._take(kind, Content(await self._rest()))
                await self._answer.drain()
        except AuthenticationError as refusal:
            self._answer.write(messages.error("28P01", str(refusal), "FATAL"))
        except UnsupportedError as refusal:
            self._answer.write(messages.error("08P01", str(refusal), "FATAL"))
        finally:
            self._reader = None
            await asyncio.to_thread(self._held.close)

    def interrupt(self) -> None:
        """End the query that runs, or is about to."""
        self._interrupted = True
        if self._reader is not None:
            self._reader.interrupt()

    def end(self) -> None:
        """Let go of the client, whatever it does."""
        self._answer.transport.abort()
        self.interrupt()

    async def _rest(self) -> bytes:
        length = struct.unpack(">i", await self._client.readexactly(4))[0] - 4
        if not 0 <= length <= LONGEST:
            raise UnsupportedError(f"a message has at most {LONGEST:,} bytes")
        return await self._client.readexactly(length)

    async def _sign_in(
        self, enter: Callable[[Session], int | None], cancel: Callable[[int, bytes], None]
    ) -> bool:
        content = Content(await self._rest())
        while (code := content.number(">i")) in (messages.SSL_REQUEST, messages.GSS_REQUEST):
            self._answer.write(b"N")
            content = Content(await self._rest())
        if code == messages.CANCEL_REQUEST:
            cancel(content.number(">i"), content.some(4))
            return False
        if code >> 16 != messages.VERSION_3:
            raise UnsupportedError("only version 3 of the protocol is spoken")
        asked: dict[str, str] = {}
        while name := content.text():
            asked[name] = content.text()
        await self._prove(asked.get("user", ""))
        if asked.get("database", SNAPSHOT) != SNAPSHOT:
            words = f"There is no database {asked['database']!r}: it is named {SNAPSHOT!r}."
            self._answer.write(messages.error("3D000", words, "FATAL"))
            return False
        number = enter(self)
        if number is None:
            words = "As many clients are served as can be: try again later."
            self._answer.write(messages.error("53300", words, "FATAL"))
            return False
        for name, value in _TOLD.items():
            self._answer.write(messages.message(b"S", messages.text(name, value)))
        self._answer.write(messages.message(b"K", struct.pack(">i", number) + self.key))
        self._ready()
        return True

    async def _prove(self, user: str) -> None:
        exchange = Exchange(self._password)
        offered = messages.text(MECHANISM) + b"\0"
        self._answer.write(messages.authentication(10, offered))
        first = await self._proof()
        if first.text() != MECHANISM:
            raise AuthenticationError(f"sign in by {MECHANISM}")
        told = exchange.first(first.some(first.number(">i")))
        self._answer.write(messages.authentication(11, told))
        told = exchange.final((await self._proof()).rest())
        if user != USER:
            raise AuthenticationError("wrong password")
        self._answer.write(messages.authentication(12, told) + messages.authentication(0))

    async def _proof(self) -> Content:
        if await self._client.readexactly(1) != b"p":
            raise AuthenticationError("a password is needed")
        return Content(await self._rest())

    async def _take(self, kind: bytes, content: Content) -> None:
        self._interrupted = False
        if kind == b"S":
            self._skipping = False
            self._ready()
        elif not self._skipping and kind != b"H":
            try:
                await self._answer_to(kind, content)
            except tuple(_STATES) as refusal:
                state = "57014" if "INTERRUPT" in str(refusal) else _STATES[type(refusal)]
                self._answer.write(messages.error(state, str(refusal)))
                self._skipping = kind != b"Q"
            if kind == b"Q":
                self._ready()

    async def _answer_to(self, kind: bytes, content: Content) -> None:
        match kind:
            case b"Q":
                await self._simple(content.text())
            case b"P":
                name, sql = content.text(), content.text()
                self._statements[name] = Statement(sql, content.numbers(">i"))
                self._answer.write(messages.message(b"1"))
            case b"B":
                await self._bind(content)
            case b"D":
                await self._describe(content.some(1), content.text())
            case b"E":
                portal, limit = content.text(), content.number(">i")
                await self._send(self._named(self._portals, portal), limit)
            case b"C":
                of = self._statements if content.some(1) == b"S" else self._portals
                of.pop(content.text(), None)
                self._answer.write(messages.message(b"3"))
            case _:
                raise UnsupportedError(f"messages of kind {kind!r} are not taken: only queries")

    async def _simple(self, sql: str) -> None:
        alone = _about_session(sql) or _about_server(sql)
        texts = [sql] if alone else await asyncio.to_thread(reading.split, sql)
        if not texts:
            self._answer.write(messages.message(b"I"))
        for one in texts:
            portal = await self._begin(one, {})
            if portal.table.columns:
                self._answer.write(messages.row_description(portal.table.columns))
            await self._send(portal, 0)

    async def _bind(self, content: Content) -> None:
        name = content.text()
        statement = self._named(self._statements, content.text())
        values, formats = messages.bound(content, statement.oids)
        if any(formats):
            raise UnsupportedError("columns are sent as text only: ask for them as text")
        self._portals[name] = await self._begin(statement.sql, values)
        self._answer.write(messages.message(b"2"))

    async def _describe(self, kind: bytes, name: str) -> None:
        if kind == b"P":
            columns = self._named(self._portals, name).table.columns
        else:
            statement = self._named(self._statements, name)
            places = {int(n) for n in re.findall(r"\$(\d+)", statement.sql)}
            count = max(places, default=0)
            oids = [*statement.oids, *[messages.TEXT_OID] * count][:count]
            told = struct.pack(f">h{count}i", count, *(oid or messages.TEXT_OID for oid in oids))
            self._answer.write(messages.message(b"t", told))
            nothing = {str(place): None for place in places}
            columns = (await self._begin(statement.sql, nothing)).table.columns
        self._answer.write(messages.row_description(columns) if columns else messages.message(b"n"))

    def _named(self, table: dict[str, Any], name: str) -> Any:
        if name not in table:
            raise reading.QueryError(f"There is no prepared statement or cursor {name!r}.")
        return table[name]

    async def _begin(self, sql: str, values: dict[str, Any]) -> Portal:
        word = _about_session(sql)
        if word is None:
            return await asyncio.to_thread(self._query, sql, values)
        if word in ("begin", "start"):
            await asyncio.to_thread(self._renew)
            self._in_transaction = True
        elif word in ("commit", "end", "rollback", "abort") and " to " not in sql.lower():
            self._in_transaction = False
        return Portal(_TAGS[word], Table([], iter(())))

    def _query(self, sql: str, values: dict[str, Any]) -> Portal:
        if told := _about_server(sql):
            name, value = told
            return Portal(None, Table([(name, "VARCHAR")], iter([(value,)])))
        if not self._in_transaction:
            self._renew()
        if self._reader is None:
            raise NotPublishedError("Nothing is published yet.")
        if self._interrupted:  # while the snapshot was opened
            raise reading.QueryError("INTERRUPT: cancelled before it began")
        return Portal(None, self._reader.query(sql, values))

    def _renew(self) -> None:
        """Open the newest snapshot, unless it is open."""
        newest = read_manifest(self._snapshots, SNAPSHOT)
        if self._reader is None or newest is None or self._reader.manifest != newest:
            self._reader = None
            self._held.close()
            self._reader = self._held.enter_context(
                reading.opened(self._snapshots, SNAPSHOT, memory=MEMORY_LIMIT)
            )

    async def _send(self, portal: Portal, limit: int) -> None:
        """Rows of a portal, `limit` at most if it is not 0; slow readers are waited for."""
        left = limit or None
        while rows := await asyncio.to_thread(_some, portal.table.rows, left):
            self._answer.write(b"".join(map(messages.data_row, rows)))
            await self._answer.drain()
            portal.sent += len(rows)
            if left is not None:
                left -= len(rows)
                if not left:
                    self._answer.write(messages.message(b"s"))
                    return
        tag = portal.tag or f"SELECT {portal.sent}"
        self._answer.write(messages.message(b"C", messages.text(tag)))

    def _ready(self) -> None:
        self._answer.write(messages.message(b"Z", b"T" if self._in_transaction else b"I"))


def _about_session(sql: str) -> str | None:
    """The first word of a statement about the session; None for others."""
    word = re.match(r"\s*([a-z]+)", sql, re.IGNORECASE)
    return word[1].lower() if word and word[1].lower() in _TAGS else None


def _about_server(sql: str) -> tuple[str, str] | None:
    """Name and value of what a client asks of the server itself; None for other texts."""
    text = sql.strip().rstrip(";")
    if _VERSION.fullmatch(text):
        return "version", VERSION
    show = _SHOW.fullmatch(text)
    value = _SETTINGS.get(show[1].lower()) if show else None
    return (show[1], value) if show and value else None


def _some(rows: Iterator[tuple[Any, ...]], left: int | None) -> list[tuple[Any, ...]]:
    return list(itertools.islice(rows, BATCH if left is None else min(left, BATCH)))
