"""Random histories of a ledger on both clocks: days, their edges, and the hours that clocks change."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import psycopg

from ledger_service.contract.events import (
    AccountChanged,
    AccountOpened,
    Context,
    Entry,
    JournalEvent,
    LedgerOpened,
    TransactionPosted,
    timestamp,
)
from ledger_service.engine.rebuild import derive
from tests.ledger_events import store_journal

ACCOUNTS = [f"customer:{number}:wallet" for number in range(3)] + ["bank:fbo"]
ZONES = ["America/New_York", "UTC", "Asia/Kathmandu", "Africa/Cairo"]
KINDS = ["transfer", "payroll", "ach_credit"]
CHANNELS = ["internal", "ach", "wire"]
_TOKENS = [None, None, "cp1", "cp2"]
_METADATA = [{}, {}, {"invoice": "1"}, {"invoice": "1", "source": "a"}, {"source": "b"}]
# Around these the clocks of New York and Cairo change; midnight in Cairo is skipped in spring.
_STARTS = ["2026-03-07", "2026-04-22", "2026-10-28", "2026-10-31", "2026-12-30"]
_STEPS = [0, 0, 1, 60, 3_600, 7_200, 40_000, 86_400, 200_000]
_SHIFTS = [0, 0, 0, 0, -1, -3_600, -86_400, -86_399, -7 * 86_400, 80_000]


@st.composite
def histories(draw: st.DrawFn, ledger: str, most: int = 30) -> list[JournalEvent]:
    """Events of a ledger, its accounts opened early or late, entries backdated and ahead."""
    zone = ZoneInfo(draw(st.sampled_from(ZONES)))
    day = dt.date.fromisoformat(draw(st.sampled_from(_STARTS)))
    at = dt.datetime.combine(day, dt.time(draw(st.integers(0, 23))), zone).astimezone(dt.UTC)
    common = {"ledger": ledger, "actor": "key_test"}
    events: list[JournalEvent] = [
        LedgerOpened(
            **common, seq=1, recorded_at=timestamp(at), currencies=["USD"], time_zone=zone.key,
            cut_off="17:00", calendar="us_federal_reserve", chart="us_fintech_fbo/1",
        )
    ]  # fmt: skip
    opened: list[str] = []
    posted: list[TransactionPosted] = []
    # Where nothing happens nothing can be wrong: half of the most, at least.
    for _ in range(draw(st.integers(most // 2, most))):
        at += dt.timedelta(seconds=draw(st.sampled_from(_STEPS)))
        if draw(st.integers(0, 3)) == 0:
            # to the edge itself: the first moment of a local day, and the last one before
            midnight = dt.datetime.combine(at.astimezone(zone).date() + _DAY, dt.time(), zone)
            at = midnight.astimezone(dt.UTC) - dt.timedelta(microseconds=draw(st.integers(0, 1)))
        own = {**common, "seq": len(events) + 1, "recorded_at": timestamp(at)}
        if len(opened) < 2 or (len(opened) < len(ACCOUNTS) and draw(st.integers(0, 4)) == 0):
            opened.append(ACCOUNTS[len(opened)])
            events.append(_account(opened[-1], own))
        elif draw(st.integers(0, 9)) == 0:
            status = draw(st.sampled_from(["open", "frozen"]))
            events.append(AccountChanged(**own, account=opened[0], status=status, reason="test"))
        else:
            posted.append(_posting(draw, opened, own, at=at, zone=zone, posted=posted))
            events.append(posted[-1])
    return events


_DAY = dt.timedelta(days=1)


def _account(name: str, own: dict) -> AccountOpened:
    ours = name.startswith("bank")
    return AccountOpened(
        **own, account=name, currency="USD", account_class="asset" if ours else "liability",
        normal_side="debit" if ours else "credit", custodial=True,
        gl_code="1010" if ours else "2010", floor=None if ours else "-100",
    )  # fmt: skip


def _posting(draw, opened, own, *, at, zone, posted) -> TransactionPosted:
    effective = at + dt.timedelta(seconds=draw(st.sampled_from(_SHIFTS)))
    day = effective.astimezone(zone).date().isoformat()
    reverses = draw(st.sampled_from([None, None, None, *[event.seq for event in posted]]))
    amount = draw(st.sampled_from([1, 7, 100, 2**62]))
    debit, credit = draw(st.lists(st.sampled_from(opened), min_size=2, max_size=2))
    lines = [Entry(debit, "debit", str(amount), "USD"), Entry(credit, "credit", str(amount), "USD")]
    return TransactionPosted(
        **own, kind=draw(st.sampled_from(KINDS)), effective_at=timestamp(effective),
        effective_date=day, business_date=day, entries=lines,
        idempotency_digest=f"{hash((own['ledger'], own['seq'])) % 2**256:064x}",
        reverses=reverses, metadata=draw(st.sampled_from(_METADATA)),
        context=Context(
            draw(st.sampled_from(CHANNELS)), draw(st.sampled_from(_TOKENS)),
            rail_reference=draw(st.sampled_from([None, "R 1"])),
        ),
    )  # fmt: skip


def store(owner_url: str, events: Sequence[JournalEvent]) -> None:
    """Put a history into the database, and derive all projections."""
    store_journal(owner_url, events)
    with psycopg.connect(owner_url) as connection:
        derive(connection, events[0].ledger, len(events))
