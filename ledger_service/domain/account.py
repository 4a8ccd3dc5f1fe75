"""An account as the book knows it, and what its status and limits allow."""

from __future__ import annotations

import re
from typing import get_args

import msgspec

from ledger_service.contract.events import AccountOpened, AccountStatus, Side

STATUSES: frozenset[str] = frozenset(get_args(AccountStatus))
_LIMIT = re.compile(r"-?(0|[1-9][0-9]{0,18})\Z")


class Account(msgspec.Struct, gc=False):
    """State of one account. Debits and credits are kept apart and only grow.

    `gc=False`, as elsewhere: what holds text and numbers can't be part of a cycle, so the garbage
    collector need not walk over a million of them.
    """

    number: int
    """`seq` of its opening; names the account in the database."""
    currency: str
    debit_normal: bool
    custodial: bool
    owner: str | None
    floor: int | None
    """Least and greatest balance on the normal side, minor units; None is unlimited."""
    ceiling: int | None
    status: AccountStatus
    status_seq: int
    """`seq` of the event that gave it this status."""
    debits: int = 0
    credits: int = 0
    pending_debits: int = 0
    """What open holds will still move, minor units of each side."""
    pending_credits: int = 0
    version: int = 0
    """`seq` of the last transaction or hold that moved it."""

    @property
    def balance(self) -> int:
        """Balance on the normal side, minor units; negative when it stands on the other side."""
        return self.debits - self.credits if self.debit_normal else self.credits - self.debits

    @property
    def secured(self) -> int:
        """The balance less what is pending against it: what a floor is held against."""
        return self.balance - (self.pending_credits if self.debit_normal else self.pending_debits)

    @property
    def expected(self) -> int:
        """The balance with what is pending in its favour: what a ceiling is held against."""
        return self.balance + (self.pending_debits if self.debit_normal else self.pending_credits)

    def takes(self, side: Side) -> bool:
        """Whether an entry on `side` is allowed by the status (a closed account: neither)."""
        return self.status in ("open", "credits_frozen" if side == "debit" else "debits_frozen")


def from_event(event: AccountOpened) -> Account:
    """The account that an event opens."""
    return Account(
        event.seq,
        event.currency,
        event.normal_side == "debit",
        event.custodial,
        event.owner,
        parse_limit(event.floor),
        parse_limit(event.ceiling),
        "open",
        event.seq,
    )


def parse_limit(text: str | None) -> int | None:
    """A floor or ceiling from its text; None stays None. Errors: ValueError."""
    if text is None:
        return None
    if not _LIMIT.match(text) or text == "-0":
        raise ValueError("a limit is whole minor units")
    return int(text)


def limits_are_sound(floor: str | None, ceiling: str | None) -> bool:
    """Whether both are whole minor units and the floor is not above the ceiling."""
    try:
        low, high = parse_limit(floor), parse_limit(ceiling)
    except ValueError:
        return False
    return low is None or high is None or low <= high
