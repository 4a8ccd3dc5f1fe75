"""Small histories of a ledger and its streams, and how they get into a database."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator, Sequence

import psycopg

from ledger_service.contract.events import (
    AccountOpened,
    Context,
    CurrencyDeclared,
    DayAttested,
    Entry,
    HoldPlaced,
    HoldReleased,
    JournalEvent,
    LedgerOpened,
    PartyRegistered,
    PeriodClosed,
    PeriodReopened,
    PeriodSoftClosed,
    RuleDeclared,
    RuleWithdrawn,
    StatementAccountRegistered,
    StatementLine,
    StatementReceived,
    StreamEvent,
    TransactionPosted,
    TrialLine,
    encode,
    event_type,
    timestamp,
)
from ledger_service.contract.rules import Part, Tier

START = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)
FBO, CLEARING = "bank:fbo", "clearing:ach"
PARTY = "pty_" + "0" * 25


def customer(number: int) -> str:
    """A customer's account."""
    return f"customer:{number}:wallet"


def opening(ledger: str, customers: int) -> Iterator[JournalEvent]:
    """The ledger, the bank's account, clearing and the customers' accounts."""
    at = timestamp(START)
    yield LedgerOpened(
        ledger=ledger, seq=1, recorded_at=at, actor="root", currencies=["USD"],
        time_zone="America/New_York", cut_off="17:00", calendar="us_federal_reserve",
        chart="us_fintech_fbo/1",
    )  # fmt: skip
    accounts = [
        (FBO, "asset", "debit", "1010", None),
        (CLEARING, "liability", "credit", "2110", None),
        *(
            (customer(n), "liability", "credit", "2010", f"{PARTY}{n % 10}")
            for n in range(customers)
        ),
    ]
    for seq, (account, account_class, side, gl_code, owner) in enumerate(accounts, 2):
        yield AccountOpened(
            ledger=ledger, seq=seq, recorded_at=at, actor="root", account=account, currency="USD",
            account_class=account_class, normal_side=side, custodial=True, gl_code=gl_code,
            owner=owner,
        )  # fmt: skip


def posting(
    ledger: str, seq: int, kind: str, *, debit: str, credit: str, amount: int, **more: object
) -> TransactionPosted:
    """A transaction of two entries, `seq` minutes into the ledger's life."""
    moment = START + dt.timedelta(minutes=seq)
    day = moment.date().isoformat()
    fields = {
        "effective_at": timestamp(moment), "effective_date": day, "business_date": day,
        "request_id": f"00000000-0000-4000-8000-{seq:012d}", "context": Context(), **more,
    }  # fmt: skip
    return TransactionPosted(
        ledger=ledger, seq=seq, recorded_at=timestamp(moment), actor="key_loader", kind=kind,
        idempotency_digest=f"{seq:064x}",
        entries=[
            Entry(debit, "debit", str(amount), "USD"),
            Entry(credit, "credit", str(amount), "USD"),
        ],
        **fields,
    )  # fmt: skip


def history(ledger: str, transactions: int, customers: int = 5) -> list[JournalEvent]:
    """A seeded ledger: deposits over ACH, and transfers between customers."""
    chance = random.Random(ledger)
    events: list[JournalEvent] = list(opening(ledger, customers))
    for seq in range(len(events) + 1, len(events) + 1 + transactions):
        amount = chance.randint(1, 500_000)
        if chance.random() < 0.5:
            context = Context(channel="ach", counterparty="cp1", rail_reference=f"ACH {seq}")
            event = posting(
                ledger,
                seq,
                "ach_credit",
                debit=FBO,
                credit=customer(chance.randrange(customers)),
                amount=amount,
                context=context,
            )
        else:
            one, other = chance.sample(range(customers), 2)
            event = posting(
                ledger,
                seq,
                "transfer",
                debit=customer(one),
                credit=customer(other),
                amount=amount,
                metadata={"note": "rent"},
            )
        events.append(event)
    return events


def holds_and_periods(ledger: str, seq: int) -> list[JournalEvent]:
    """A hold captured in part and one voided, then a month closed and reopened; from `seq` on."""
    head = {"ledger": ledger, "recorded_at": timestamp(START), "actor": "key_loader"}
    lines = [Entry(customer(0), "debit", "60", "USD"), Entry(CLEARING, "credit", "60", "USD")]
    placed = {"kind": "card_purchase", "entries": lines, "context": Context(channel="card")}
    return [
        HoldPlaced(
            seq=seq, idempotency_digest=f"{seq:064x}", expires_at="2026-07-08T12:00:00.000000Z",
            **placed, **head,
        ),
        posting(
            ledger, seq + 1, "card_purchase", debit=customer(0), credit=CLEARING, amount=45,
            captures=seq, ends_hold=True,
        ),
        HoldPlaced(seq=seq + 2, idempotency_digest=f"{seq + 2:064x}", **placed, **head),
        HoldReleased(
            seq=seq + 3, hold=seq + 2, cause="voided", reason="cancelled", entries=lines,
            idempotency_digest=f"{seq + 3:064x}", **head,
        ),
        PeriodSoftClosed(seq=seq + 4, through="2026-05-31", **head),
        PeriodClosed(
            seq=seq + 5, through="2026-05-31", tree_size=seq + 4, tree_root="ab" * 32,
            trial_balance=[TrialLine("1010", "asset", True, "USD", "0", "0")],  # noqa: FBT003
            checks=["debits_equal_credits"], **head,
        ),
        PeriodReopened(
            seq=seq + 6, since="2026-05-30", reason="late_invoice", approval="apr_1", **head
        ),
        DayAttested(seq=seq + 7, day="2026-06-01", reference="stm_1", **head),
    ]  # fmt: skip


def declarations(ledger: str, seq: int) -> list[JournalEvent]:
    """A currency of the ledger's own, a rule of interest, and its end; from `seq` on."""
    head = {"ledger": ledger, "recorded_at": timestamp(START), "actor": "key_loader"}
    return [
        CurrencyDeclared(seq=seq, currency="POINTS", exponent=3, **head),
        RuleDeclared(
            seq=seq + 1, rule="save", version=1, since="2026-06-01", kind="interest",
            currency="USD", tiers=[Tier(rate="0.04"), Tier("1000000", rate="0.05")],
            day_count="ACT/365F", debit=[Part("expense:interest", 1)],
            credit=[Part("payable:interest", 1)], **head,
        ),
        RuleWithdrawn(seq=seq + 2, rule="save", version=2, since="2026-07-01", **head),
    ]  # fmt: skip


def parties(count: int) -> list[StreamEvent]:
    """Persons with no personal data."""
    return [
        PartyRegistered(
            stream="parties", seq=seq, recorded_at=timestamp(START), party=f"{PARTY}{seq}",
            kind="person", country="US", risk_tier="low", version=1,
        )
        for seq in range(1, count + 1)
    ]  # fmt: skip


def statement(
    ledger: str, day: str, closing: int, lines: Sequence[tuple[str, int, str]], first_seq: int = 1
) -> list[StreamEvent]:
    """One day of the bank's account: `lines` are side, amount and reference."""
    at = timestamp(START)
    token = f"sta_{ledger}"
    return [
        StatementAccountRegistered(
            stream="statements", seq=first_seq, recorded_at=at, statement_account=token,
            ledger=ledger, account=FBO, bank="first_partner", purpose="fbo",
        ),
        StatementReceived(
            stream="statements", seq=first_seq + 1, recorded_at=at, statement=f"stm_{day}",
            statement_account=token, bank="first_partner", statement_date=day, currency="USD",
            opening_balance="0", closing_balance=str(closing), line_count=len(lines),
            format="bai2",
        ),
        *(
            StatementLine(
                stream="statements", seq=first_seq + 1 + number, recorded_at=at,
                statement=f"stm_{day}", statement_account=token, line_no=number,
                statement_date=day, value_date=day, side=side,
                amount=str(amount), currency="USD", reference=reference, bank_code="142",
            )
            for number, (side, amount, reference) in enumerate(lines, 1)
        ),
    ]  # fmt: skip


def store_journal(url: str, events: Sequence[JournalEvent]) -> None:
    """Put events into the journal as the writer would leave them."""
    with psycopg.connect(url) as connection:
        with connection.cursor().copy(
            "copy ledger.journal (ledger, seq, event_type, recorded_at, bytes, leaf_hash) "
            "from stdin"
        ) as copy:
            for event in events:
                copy.write_row(
                    (
                        event.ledger,
                        event.seq,
                        event_type(event),
                        event.recorded_at,
                        encode(event),
                        b"",
                    )
                )
        connection.execute(
            "insert into ledger.head (ledger, seq, epoch, root) values (%s, %s, 1, '') "
            "on conflict (ledger) do update set seq = excluded.seq",
            (events[-1].ledger, events[-1].seq),
        )


def store_stream(url: str, events: Sequence[StreamEvent]) -> None:
    """Put events into a stream, with the party or statement as subject."""
    with psycopg.connect(url) as connection:
        for event in events:
            subject = getattr(event, "party", None) or getattr(event, "statement_account", "")
            connection.execute(
                "insert into stream.event (stream, seq, event_type, subject, recorded_at, bytes) "
                "values (%s, %s, %s, %s, %s, %s)",
                (
                    event.stream,
                    event.seq,
                    event_type(event),
                    subject,
                    event.recorded_at,
                    encode(event),
                ),
            )
        connection.execute(
            "update stream.head set seq = %s where stream = %s", (events[-1].seq, events[-1].stream)
        )
