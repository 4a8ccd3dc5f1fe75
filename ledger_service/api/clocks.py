"""The parameters of an as-of question, the same on every route that takes them."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request

from ledger_service.api.problems import Problem
from ledger_service.contract.events import timestamp
from ledger_service.domain.transaction import parse_moment
from ledger_service.engine import as_of, reads


class Clocks:
    """Query parameters: by when it counted, and as of when it was known."""

    def __init__(
        self,
        effective_at: Annotated[
            str | None, Query(description="What counts up to this moment, RFC 3339.")
        ] = None,
        effective_date: Annotated[
            dt.date | None, Query(description="What counts up to the end of this local day.")
        ] = None,
        known_at: Annotated[
            str | None, Query(description="As known at this moment, RFC 3339.")
        ] = None,
        at_seq: Annotated[int | None, Query(description="As known with this event.")] = None,
    ) -> None:
        if effective_at is not None and effective_date is not None:
            raise Problem("invalid_request", "Give effective_at or effective_date, not both.")
        if known_at is not None and at_seq is not None:
            raise Problem("invalid_request", "Give known_at or at_seq, not both.")
        self.effective_at = moment_of("effective_at", effective_at)
        self.effective_date = effective_date
        self._known_at = moment_of("known_at", known_at)
        self._at_seq = at_seq

    @property
    def asks_when_effective(self) -> bool:
        """Whether the effective clock is asked for at all."""
        return self.effective_at is not None or self.effective_date is not None

    async def known_seq(self, request: Request, ledger: str) -> int:
        """The last event known. Errors: `ledger_not_open`; `invalid_request` for one to come."""
        if self._known_at is None:
            return await resolve_seq(request, ledger, self._at_seq)
        await resolve_seq(request, ledger, None)
        return await reads.seq_known_at(request.app.state.pool, ledger, self._known_at)

    async def resolve(self, request: Request, ledger: str) -> as_of.Clocks:
        """The point on both clocks, once the projections have come that far."""
        seq = await self.known_seq(request, ledger)
        return await as_of.resolve(
            request.app.state.pool,
            ledger,
            seq,
            effective_at=self.effective_at,
            effective_date=self.effective_date,
        )

    def stated(self, seq: int) -> dict[str, Any]:
        """The point, as an answer says it; `seq`: the last event known."""
        moment, day = self.effective_at, self.effective_date
        return {
            "at_seq": seq,
            "effective_at": moment and timestamp(moment),
            "effective_date": day and day.isoformat(),
        }


AsOf = Annotated[Clocks, Depends()]


SeqInPath = Annotated[int, Path(ge=1, le=reads.LAST_SEQ)]
"""Of an event that a path names."""


def moment_of(name: str, text: str | None) -> dt.datetime | None:
    """A moment of a query parameter. Errors: `invalid_request`."""
    if text is None:
        return None
    moment = parse_moment(text)
    if moment is None:
        raise Problem("invalid_request", f"{name} is RFC 3339 with a time zone.")
    return moment


async def resolve_seq(request: Request, ledger: str, at_seq: int | None) -> int:
    """`at_seq`, or where the ledger stands now. Errors: `Problem` for a `seq` not reached yet."""
    head = await reads.head_seq(request.app.state.pool, ledger)
    if head is None:
        raise Problem("ledger_not_open")
    if at_seq is not None and not 0 < at_seq <= head:
        raise Problem("invalid_request", f"at_seq is from 1 to {head}, where the ledger stands.")
    return head if at_seq is None else at_seq


async def recorded_range(
    request: Request, ledger: str, start: str | None, end: str | None
) -> tuple[int, int]:
    """`seq` past which and up to which events were recorded from `start` on, up to `end` without it."""
    pool = request.app.state.pool
    first, last = moment_of("recorded_from", start), moment_of("recorded_to", end)
    return (
        0 if first is None else await reads.seq_known_before(pool, ledger, first),
        reads.LAST_SEQ if last is None else await reads.seq_known_before(pool, ledger, last),
    )
