"""What the partner bank is told of a ledger's outside movements, and what it states of them.

Loaded and simulated money has moved somewhere: at the sandbox bank, on the FBO account of the
ledger. It is told so as the outside world would know it, and its statements come back the way a
real bank's do.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Self

from ledger_service.loading.ledger_client import LedgerClient
from ledger_service.rails.bank_client import BankClient
from ledger_service.rails.sandbox_bank import NAME, CloseDays, Movement, NewAccount, StatedBalance
from ledger_service.rails.statements.model import Format

FBO = "bank:fbo"


class PartnerBank:
    """The sandbox bank as one ledger uses it; without a bank configured, everything is a no-op."""

    def __init__(self, ledger: str, bank: BankClient | None) -> None:
        self._ledger = ledger
        self._bank = bank
        # Twelve digits, as US banks number accounts; it never leaves bank and vault.
        digest = int.from_bytes(hashlib.sha256(ledger.encode()).digest()[:8], "big")
        self.fbo_number = f"{700_000_000_000 + digest % 10**11}"

    @classmethod
    def of(cls, ledger: str) -> Self:
        """The bank that the settings name."""
        return cls(ledger, BankClient.from_environment())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._bank:
            self._bank.__exit__()

    @property
    def is_there(self) -> bool:
        """Whether a bank is configured."""
        return self._bank is not None

    def open_fbo(self, api: LedgerClient, currency: str, format_: Format) -> None:
        """Open the FBO account at the bank, and register it for reconciliation."""
        if self._bank is None:
            return
        delivery = f"{self._ledger}-fbo"
        self._bank.open_accounts([NewAccount(self.fbo_number, currency, format_, delivery)])
        api.register_statement_accounts([self._registration(self.fbo_number, FBO, "fbo", 0)])

    def open_stated(
        self, api: LedgerClient, currency: str, accounts: Sequence[str], rounded: int
    ) -> None:
        """Open an account at the bank for each ledger account whose balance a source states."""
        if self._bank is None:
            return
        delivery = f"{self._ledger}-stated"
        self._bank.open_accounts(
            [NewAccount(self.stated_number(one), currency, "bai2", delivery) for one in accounts]
        )
        api.register_statement_accounts(
            [
                self._registration(self.stated_number(one), one, "stated_balance", rounded)
                for one in accounts
            ]
        )

    def _registration(
        self, number: str, account: str, purpose: str, rounded: int
    ) -> dict[str, Any]:
        return {
            "bank": NAME,
            "account_number": number,
            "ledger": self._ledger,
            "account": account,
            "purpose": purpose,
            "rounded_half_minor_per_entry": rounded,
        }

    def stated_number(self, account: str) -> str:
        """What the source calls an account, as far as the bank's statements are concerned."""
        name = f"{self._ledger}-{account}".replace(":", ".")
        return name if len(name) <= 64 else hashlib.sha256(name.encode()).hexdigest()[:40]

    def tell(self, movements: Sequence[Movement]) -> None:
        """Tell what happened on the FBO account; telling it again is harmless."""
        if self._bank and movements:
            self._bank.tell_movements(movements)

    def state(self, currency_balances: Iterable[tuple[str, dt.date, int]]) -> int:
        """Tell balances that a source states: account, day, minor units. Gives how many."""
        balances = [
            StatedBalance(self.stated_number(account), day.isoformat(), str(balance))
            for account, day, balance in currency_balances
        ]
        if self._bank and balances:
            self._bank.tell_balances(balances)
        return len(balances)

    def close_days(self, through: dt.date, *, stated: bool) -> int:
        """Have the statements of all days up to `through` issued; gives how many files are new."""
        if self._bank is None:
            return 0
        deliveries = [f"{self._ledger}-fbo", *([f"{self._ledger}-stated"] if stated else [])]
        return self._bank.close_days(CloseDays(name, through.isoformat()) for name in deliveries)
