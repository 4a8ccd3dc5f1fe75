"""From a row of the source to what it is here, or why it is nothing: pure, no clock, no network."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Context, Decimal, localcontext
from typing import NamedTuple
from zoneinfo import ZoneInfo

from ledger_service.contract.context import Channel
from ledger_service.contract.identifiers import IdentifierError, check_account
from ledger_service.contract.money import MAX_POSTING_MINOR, MoneyError, to_minor
from ledger_service.loading.errors import RowRejectedError
from ledger_service.loading.mapping import ANY_KIND, Mapping, Meaning, Movement
from ledger_service.loading.source import Row

EXACT = Context(prec=200)
"""Amounts and their sums are exact under this; Python's default rounds at 28 digits."""
_NUMBER = re.compile(r"[+-]?(\d{1,30}(\.\d{0,60})?|\.\d{1,60})([eE][+-]?\d{1,2})?\Z")
_NOON = dt.time(12)


class Transfer(NamedTuple):
    """A row that can be posted. `origin` and `destination` are accounts here; None is outside."""

    row: int
    origin: str | None
    destination: str | None
    amount: int
    """Minor units."""
    source_amount: Decimal
    residual: Decimal
    """What rounding took away, in minor units."""
    kind: str
    channel: Channel
    effective_at: dt.datetime
    stated: tuple[tuple[str, str], ...]
    """Balances that the row states: account, amount as the source writes it."""

    @property
    def day(self) -> dt.date:
        """The local day on which it counts."""
        return self.effective_at.date()


@dataclasses.dataclass(frozen=True, slots=True)
class Rejected:
    """A row for the quarantine, with what may be kept of it in clear."""

    row: int
    reason: str
    detail: str
    source_amount: Decimal | None
    """None where the row has no number for an amount."""
    fields: dict[str, str]


def stated_minor(text: str, currency: str) -> int | None:
    """A stated balance in minor units: a statement knows no finer ones. None: it is no number."""
    with localcontext(EXACT):
        return to_minor(text, currency, "half_even")[0] if _NUMBER.match(text) else None


def parse_time(mapping: Mapping, zone: ZoneInfo, text: str) -> dt.datetime:
    """The moment a row counts, in the ledger's time zone. Errors: RowRejectedError `bad_time`."""
    unit, base = mapping.time.unit, mapping.time.base
    try:
        if unit == "timestamp":
            moment = dt.datetime.fromisoformat(text)
            return moment.astimezone(zone) if moment.tzinfo else moment.replace(tzinfo=zone)
        if unit == "date":
            return dt.datetime.combine(dt.date.fromisoformat(text[:10]), _NOON, zone)
        assert base is not None  # noqa: S101 - the mapping was checked
        steps = int(text)
        if unit == "day":
            return dt.datetime.combine(base + dt.timedelta(days=steps), _NOON, zone)
        midnight = dt.datetime.combine(base, dt.time(), dt.UTC)
        # Wall time: an hour of the source is an hour of the local day, also where clocks change.
        return (midnight + dt.timedelta(hours=steps)).replace(tzinfo=zone)
    except (ValueError, OverflowError):
        raise RowRejectedError("bad_time", f"the time is no {unit} as the mapping says") from None


def _meaning(movement: Movement, origin: str | None, destination: str | None) -> Meaning:
    direction = "in" if origin is None else "out" if destination is None else "internal"
    meanings = {"in": movement.into, "out": movement.out, "internal": movement.internal}
    meaning = meanings[direction]
    if meaning is None:
        raise RowRejectedError("unmapped_kind", f"the mapping gives no {direction} for this kind")
    return meaning


class Planner:
    """Reads rows by a mapping. `name` gives the account's segment for an id of the source."""

    def __init__(self, mapping: Mapping, name: Callable[[str], str]) -> None:
        self._mapping = mapping
        self._zone = ZoneInfo(mapping.time_zone)
        outside = mapping.outside
        self._pays_in = re.compile(outside.pays_in if outside else r"(?!)")
        self._is_paid = re.compile(outside.is_paid if outside else r"(?!)")
        self._name = name
        self.account = functools.lru_cache(maxsize=100_000)(self._account)
        self._moment = functools.lru_cache(maxsize=10_000)(
            functools.partial(parse_time, mapping, self._zone)
        )

    def plan(self, rows: Iterator[Row]) -> Iterator[Transfer | Rejected]:
        """Every row in order, as a transfer or rejected."""
        while batch := list(itertools.islice(rows, 1000)):
            with localcontext(EXACT):
                planned = [self._row(number, values) for number, values in batch]
            yield from planned

    def _row(self, number: int, values: list[str] | None) -> Transfer | Rejected:
        if values is None:
            detail = "the row has more or fewer fields than the header"
            return Rejected(number, "malformed_row", detail, None, {})
        try:
            return self._transfer(number, values)
        except RowRejectedError as error:
            amount = Decimal(values[1]) if _NUMBER.match(values[1]) else None
            fields = self._safe_fields(values)
            return Rejected(number, error.reason, error.detail, amount, fields)

    def _transfer(self, number: int, values: Sequence[str]) -> Transfer:
        time, amount_text, origin_id, destination_id = values[:4]
        source_kind = values[4] if self._mapping.columns.kind else ANY_KIND
        for name, value in (("time", time), ("amount", amount_text)):
            if not value:
                raise RowRejectedError("missing_value", f"the row has no {name}")
        moment = self._moment(time)
        source_amount, amount, residual = self._amount(amount_text)
        movement = self._mapping.kinds.get(source_kind) or self._mapping.kinds.get(ANY_KIND)
        if movement is None:
            raise RowRejectedError("unmapped_kind", "the mapping has no such kind")
        origin, destination = self._accounts(movement, origin_id, destination_id)
        stated = self._stated(source_kind, origin, destination, values)
        if movement.only_origin == "in":
            origin, destination = None, origin
        meaning = _meaning(movement, origin, destination)
        return Transfer(
            row=number,
            origin=origin,
            destination=destination,
            amount=amount,
            source_amount=source_amount,
            residual=residual,
            kind=meaning.kind,
            channel=meaning.channel,
            effective_at=moment,
            stated=stated,
        )

    def _amount(self, text: str) -> tuple[Decimal, int, Decimal]:
        if not _NUMBER.match(text):
            raise RowRejectedError("bad_amount", "the amount is no decimal number")
        source = Decimal(text)
        try:
            minor, residual = to_minor(source, self._mapping.currency, self._mapping.rounding)
        except MoneyError as error:
            raise RowRejectedError(
                error.code, "the amount is no whole number of minor units"
            ) from None
        if source < 0:
            raise RowRejectedError(
                "negative_amount", "an amount is positive; who pays whom says the rest"
            )
        if not source:
            raise RowRejectedError("zero_amount", "nothing moves")
        if not minor:
            raise RowRejectedError("rounds_to_zero", "less than half a minor unit")
        if minor > MAX_POSTING_MINOR:
            raise RowRejectedError("amount_too_large", "a posting is at most 2^63-1 minor units")
        return source, minor, residual

    def _accounts(
        self, movement: Movement, origin_id: str, destination_id: str
    ) -> tuple[str | None, str | None]:
        """The accounts here of the row's two columns; None is outside."""
        if not origin_id or not (destination_id or movement.only_origin):
            raise RowRejectedError("missing_value", "the row has no origin or no destination")
        if movement.only_origin:
            return self.account(origin_id), None
        pays_in = self._pays_in.fullmatch(origin_id)
        is_paid = self._is_paid.fullmatch(destination_id)
        origin = None if pays_in else self.account(origin_id)
        destination = None if is_paid else self.account(destination_id)
        if origin is None and destination is None:
            raise RowRejectedError("outside_to_outside", "no account here takes part")
        if origin == destination:
            raise RowRejectedError("same_account", "the money would go to where it comes from")
        return origin, destination

    def _account(self, source_id: str) -> str:
        try:
            return check_account(self._mapping.accounts.template.format(id=self._name(source_id)))
        except IdentifierError as error:
            raise RowRejectedError(error.code, "an account's id can't be used here") from None

    def _stated(
        self, source_kind: str, origin: str | None, destination: str | None, values: Sequence[str]
    ) -> tuple[tuple[str, str], ...]:
        stated = self._mapping.stated_balances
        if stated is None or source_kind in stated.except_kinds:
            return ()
        of_origin = ((origin, values[-2]),) if origin and values[-2] else ()
        of_destination = ((destination, values[-1]),) if destination and values[-1] else ()
        return of_origin + of_destination

    def _safe_fields(self, values: Sequence[str]) -> dict[str, str]:
        """What the quarantine may show: amounts, times and kinds that are such; ids never."""
        fields: dict[str, str] = {}
        if _NUMBER.match(values[1]):
            fields["amount"] = values[1]
        with contextlib.suppress(RowRejectedError):
            fields["effective_at"] = self._moment(values[0]).isoformat()
        if self._mapping.columns.kind and values[4] in self._mapping.kinds:
            fields["kind"] = values[4]
        return fields
