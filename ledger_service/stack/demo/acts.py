"""Acts 1 to 3, by script: an alert, a reversal, a break; as people at the console would play them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from ledger_service.stack.demo import published
from ledger_service.stack.demo.visitor import Api, Person, eventually
from ledger_service.stack.errors import StackError
from ledger_service.stack.home import Home

Say = Callable[[str], None]
_VERSION = re.compile(r'name="version" value="(\d+)"')
_DIGEST = re.compile(r'name="digest" value="([0-9a-f]+)"')


class ActFailed(StackError):
    """An act did not end as it must."""

    def __init__(self, detail: str) -> None:
        super().__init__("act_failed", detail)


def _found(pattern: str | re.Pattern[str], html: str, what: str) -> str:
    match = re.search(pattern, html)
    if match is None:
        raise ActFailed(f"The page shows no {what}.")
    return match[1]


def alert(home: Home, say: Say) -> None:
    """Act 1: open an alert, read why, follow an entry to its proof, close it."""
    carol = Person(home, "carol")
    queue = carol.open("/alerts?status=open&ledger=simulated")
    name = _found(r'href="/alerts/(\w[\w-]*)"', queue, "open alert")
    page = carol.open(f"/alerts/{name}")
    why = _found(r'<p class="why">([^<]+)</p>', page, "reason in words")
    proof = _found(r'href="(/proofs/simulated/\d+)"', page, "link to a proof")
    eventually(f"The proof {proof}", 30, lambda: "<strong>Proven.</strong>" in carol.open(proof))
    status, _ = carol.send(
        f"/alerts/{name}", f"/alerts/{name}/decisions",
        decision="close", reason="Demo: evidence reviewed entry by entry.", version=_found(_VERSION, page, "version"),
    )  # fmt: skip
    if status != 200 or ">closed<" not in carol.open(f"/alerts/{name}").lower():
        raise ActFailed(f"The alert was not closed (status {status}).")
    say(f"  {why.strip()}\n  Its evidence is proven ({proof}); closed by carol.")


def pending_reversal(home: Home) -> dict[str, str]:
    """The reversal that waits for its second person; asked for now if none waits."""
    olivia = Api(home, user="olivia")
    waiting = olivia.get("/v1/reversals", ledger="simulated", status="awaiting_approval")[
        "reversals"
    ]
    if waiting:
        return waiting[0]
    taken = {
        item["transaction"] for item in olivia.get("/v1/reversals", ledger="simulated")["reversals"]
    }
    marts = published.marts(home, "general")
    choice = published.rows(
        marts,
        "select seq from transactions where ledger = 'simulated' and kind = 'transfer' "
        "and reverses_seq is null and reversed_by_seq is null order by effective_date desc, seq desc limit 100",
    )
    for row in choice:
        if row["seq"] not in taken:
            made = olivia.post(
                "/v1/ledgers/simulated/reversals",
                {
                    "transaction": row["seq"],
                    "reason": "duplicate",
                    "idempotency_key": f"demo-reversal-{row['seq']}",
                },
            )
            return olivia.get(f"/v1/reversals/{made['reversal']}")
    raise ActFailed("No transfer of the simulated ledger is left to reverse.")


def reversal(home: Home, say: Say) -> None:
    """Act 2: the maker's approval is refused, the approver's succeeds, the mart follows."""
    waiting = pending_reversal(home)
    name, transaction = waiting["reversal"], int(waiting["transaction"])
    page, action = f"/reversals/{name}", f"/approvals/{waiting['approval']}/decisions"
    olivia, adam = Person(home, "olivia"), Person(home, "adam")
    digest = _found(_DIGEST, adam.open(page), "digest to approve")
    fields = {"decision": "approve", "digest": digest, "reason": "Demo: facts compared."}
    status, answer = olivia.send(page, action, **fields)
    if status != 409 or "maker_is_checker" not in answer:
        raise ActFailed(f"The maker's own approval was not refused (status {status}).")
    begun = time.monotonic()
    status, _ = adam.send(page, action, **fields)
    if status != 200:
        raise ActFailed(f"The approver was refused (status {status}).")

    def reversed_in_marts() -> bool:
        rows = published.rows(
            published.marts(home, "general"),
            "select reversed_by_seq from transactions where ledger = 'simulated' and seq = $1",
            [transaction],
        )
        return bool(rows and rows[0]["reversed_by_seq"])

    eventually("The reversal in the marts", 90, reversed_in_marts)
    say(
        f"  Maker olivia was refused (maker_is_checker); adam approved; transaction {transaction} shows as "
        f"reversed in the marts {time.monotonic() - begun:.1f} s later."
    )


def last_break(home: Home) -> dict[str, str]:
    """The break of the last banking day of the simulated ledger. Errors: `act_failed` for none."""
    rows = published.rows(
        published.marts(home, "general"),
        "select break_id, kind, cast(opened_date as varchar) as day from reconciliation_breaks "
        "where ledger = 'simulated' and kind <> 'timing' order by opened_date desc, break_id limit 1",
    )
    if not rows:
        raise ActFailed("The simulated ledger shows no break.")
    return rows[0]


def open_break(home: Home, say: Say) -> None:
    """Act 3: the last day's break with both sides, then that day's report as PDF."""
    found = last_break(home)
    olivia = Person(home, "olivia")
    page = olivia.open(f"/breaks/{found['break_id']}")
    if "At the bank" not in page or "In the ledger" not in page:
        raise ActFailed("The break does not show both sides.")
    path = f"/reports/fbo/simulated/{found['day']}.pdf"
    pdf = olivia.download(path)
    if not pdf.startswith(b"%PDF"):
        raise ActFailed(f"{path} is no PDF.")
    say(f"  {found['kind']} of {found['day']}, both sides shown; {path} ({len(pdf):,} bytes).")
