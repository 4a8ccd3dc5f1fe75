"""The commands of periods: closing the books, reopening them, attesting a day."""

from __future__ import annotations

import msgspec


class SoftClosePeriod(msgspec.Struct, frozen=True, array_like=True, tag="soft_close"):
    """Take only corrections up to the day `through`. Repeating it changes nothing."""

    through: str
    actor: str
    request_id: str | None = None
    dry_run: bool = False


class ClosePeriod(msgspec.Struct, frozen=True, array_like=True, tag="close"):
    """Take nothing more up to the day `through`. Repeating it changes nothing."""

    through: str
    actor: str
    request_id: str | None = None
    dry_run: bool = False


class ReopenPeriod(msgspec.Struct, frozen=True, array_like=True, tag="reopen"):
    """Take corrections again from the day `since` on; consumes an approval."""

    since: str
    reason: str
    approval: str
    actor: str
    request_id: str | None = None
    dry_run: bool = False


class AttestDay(msgspec.Struct, frozen=True, array_like=True, tag="attest"):
    """Take nothing more for one day. Repeating it changes nothing."""

    day: str
    reference: str
    actor: str
    request_id: str | None = None
    dry_run: bool = False


OfPeriod = SoftClosePeriod | ClosePeriod | ReopenPeriod | AttestDay
