"""Our side of the line to a partner bank: signed requests, and what they answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self, TypeVar

import httpx
import msgspec

from ledger_service.contract import environment
from ledger_service.rails import signing
from ledger_service.rails.sandbox_bank import CloseDays, Movement, NewAccount, StatedBalance

_BATCH = 5_000
Told = TypeVar("Told", NewAccount, Movement, StatedBalance)


class BankUnavailableError(Exception):
    """The bank does not answer, or not as it should. `code` is stable."""

    code = "bank_unavailable"


class BankRefusedError(Exception):
    """The bank refused; `code` is the bank's."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"The partner bank refused: {detail}")
        self.code = code


class BankClient:
    """Calls one bank. Use it as a context manager."""

    def __init__(self, url: str, secret: str, transport: httpx.BaseTransport | None = None) -> None:
        self._secret = secret
        self._http = httpx.Client(base_url=url, timeout=120, trust_env=False, transport=transport)

    @classmethod
    def from_environment(cls) -> BankClient | None:
        """The bank the settings name; None where they name none."""
        url = environment.read("TALLYSTICK_BANK_URL")
        return cls(url, environment.read("TALLYSTICK_BANK_SECRET")) if url else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._http.close()

    def _call(self, method: str, target: str, body: bytes = b"") -> httpx.Response:
        """One signed request. Errors: BankUnavailableError, BankRefusedError."""
        headers = signing.sign(self._secret, method, target, body)
        try:
            answer = self._http.request(method, target, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise BankUnavailableError(
                f"The partner bank at {self._http.base_url} does not answer "
                f"({type(error).__name__}); start it with `tally up`, or set TALLYSTICK_BANK_URL."
            ) from None
        if answer.is_success:
            return answer
        try:
            problem = answer.json()
            refusal = BankRefusedError(str(problem["code"]), str(problem["detail"]))
        except (ValueError, KeyError, TypeError):
            raise BankUnavailableError(
                f"The partner bank answered {answer.status_code}; see `tally logs bank`."
            ) from None
        raise refusal

    def _tell(self, target: str, items: Sequence[Told]) -> None:
        for start in range(0, len(items), _BATCH):
            lines = [msgspec.json.encode(item) for item in items[start : start + _BATCH]]
            self._call("POST", target, b"\n".join(lines))

    def open_accounts(self, accounts: Sequence[NewAccount]) -> None:
        """Open accounts at the bank; those open alike stay. Errors as all here: Bank…."""
        self._tell("/accounts", accounts)

    def tell_movements(self, movements: Sequence[Movement]) -> None:
        """What happened on accounts; telling it again is harmless."""
        self._tell("/movements", movements)

    def tell_balances(self, balances: Sequence[StatedBalance]) -> None:
        """End-of-day balances of accounts without lines; telling them again is harmless."""
        self._tell("/balances", balances)

    def close_days(self, closes: Iterable[CloseDays]) -> int:
        """Have statements issued; gives how many files were made now."""
        body = b"\n".join(msgspec.json.encode(one) for one in closes)
        return int(self._call("POST", "/close-days", body).json()["statements"])

    def statements(self) -> Iterator[dict[str, Any]]:
        """Every statement file issued, oldest first: id, delivery, day, format, sha256."""
        after = 0
        while page := self._call("GET", f"/statements?after={after}").json()["statements"]:
            yield from page
            after = page[-1]["id"]

    def statement(self, number: int) -> bytes:
        """A statement file as the bank issued it."""
        return self._call("GET", f"/statements/{number}").content
