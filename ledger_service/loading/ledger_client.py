"""The ledger API as loader and simulator use it: like any client, over HTTP, with an API key."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self, TypeVar

import httpx
import msgspec

from ledger_service.contract import environment
from ledger_service.contract.events import Context, Entry
from ledger_service.rails.api_errors import ApiRefusedError, ApiUnavailableError, raise_for

_ACCOUNTS = 1_000
_TRIES = 6
_AGAIN = frozenset(
    {
        "busy",
        "outcome_unknown",
        "unknown",
        "writer_unavailable",
        "deadline_passed",
        "database_unavailable",
        "in_flight",
    }
)
Item = TypeVar("Item")


class Posting(msgspec.Struct, frozen=True, omit_defaults=True):
    """One transaction as the API takes it."""

    idempotency_key: str
    kind: str
    effective_at: str
    entries: list[Entry]
    context: Context = Context()
    metadata: dict[str, str] = {}


class NewAccount(msgspec.Struct, frozen=True, omit_defaults=True):
    """An account as the API takes it."""

    account: str
    currency: str
    owner: str | None = None
    floor: str | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What the ledger answers for one transaction."""

    status: str
    """committed, replayed, refused or unknown."""
    seq: int | None = None
    code: str | None = None
    detail: Any = None


_VERDICT = msgspec.json.Decoder(Verdict)


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """`items` in lists of at most `size`."""
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


class LedgerClient:
    """One ledger over the API. Errors of all methods: ApiUnavailableError, ApiRefusedError."""

    def __init__(self, ledger: str, *, url: str | None = None, key: str | None = None) -> None:
        self.ledger = ledger
        self._http = httpx.Client(
            base_url=url or environment.read("TALLYSTICK_API_URL"),
            headers={"authorization": f"Bearer {key or environment.read('TALLYSTICK_API_KEY')}"},
            timeout=120,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._http.close()

    def _call(
        self, method: str, target: str, *, tries: int = _TRIES, **arguments: Any
    ) -> httpx.Response:
        """One request; it is sent again while the API recovers."""
        for attempt in range(1, tries + 1):
            try:
                return raise_for(self._http.request(method, target, **arguments))
            except httpx.HTTPError as error:
                # All that is sent from here is idempotent: a lost answer is asked for again.
                if attempt == tries:
                    raise ApiUnavailableError(self._http.base_url, error) from None
            except ApiRefusedError as error:
                if attempt == tries or error.code not in _AGAIN:
                    raise
            time.sleep(0.1 * 2**attempt)
        raise AssertionError

    def check(self) -> None:
        """Whether the API is there and knows us."""
        self._call("GET", "/v1/me", tries=1)

    def open_ledger(self, currency: str, time_zone: str) -> None:
        """Open the ledger, or find it open."""
        known = self._call("GET", "/v1/ledgers").json()["ledgers"]
        if any(one["ledger"] == self.ledger for one in known):
            return
        self._call(
            "POST",
            "/v1/ledgers",
            json={
                "ledger": self.ledger,
                "currencies": [currency],
                "time_zone": time_zone,
                "cut_off": "17:00",
                "calendar": "us_federal_reserve",
                "chart": "us_fintech_fbo/1",
            },
        )

    def open_accounts(self, accounts: Sequence[NewAccount]) -> None:
        """Open accounts; those open alike stay. Errors: ApiRefusedError for the first refused."""
        for batch in batches(accounts, _ACCOUNTS):
            answer = self._call(
                "POST",
                f"/v1/ledgers/{self.ledger}/accounts:batch",
                content=msgspec.json.encode({"accounts": batch}),
                headers={"content-type": "application/json"},
            )
            for account, verdict in zip(batch, answer.json()["results"], strict=True):
                if verdict["status"] == "refused":
                    raise ApiRefusedError(
                        str(verdict.get("code")),
                        f"account {account.account}: {verdict.get('detail')}",
                        answer.status_code,
                        answer.headers.get("x-request-id", "unknown"),
                    )

    def register_parties(self, parties: Sequence[dict[str, Any]]) -> list[str]:
        """Register parties by `reference`; gives their ids. A known reference gives its party."""
        ids: list[str] = []
        for batch in batches(parties, _ACCOUNTS):
            answer = self._call("POST", "/v1/parties:batch", json={"parties": batch})
            ids += [result["party"] for result in answer.json()["results"]]
        return ids

    def register_statement_accounts(self, accounts: Sequence[dict[str, Any]]) -> None:
        """Say which ledger account a bank's statements are compared with."""
        for batch in batches(accounts, _ACCOUNTS):
            self._call("POST", "/v1/statement-accounts:batch", json={"statement_accounts": batch})

    def is_posted(self, idempotency_key: str) -> bool:
        """Whether the ledger holds a transaction of that key."""
        try:
            self._call(
                "GET",
                f"/v1/ledgers/{self.ledger}/transactions",
                params={"idempotency_key": idempotency_key},
            )
        except ApiRefusedError as error:
            if error.status == 404:
                return False
            raise
        return True

    def post(self, postings: Sequence[Posting]) -> list[Verdict]:
        """Post transactions; a verdict for each. What is unknown is asked until it is known."""

        def stream() -> list[Verdict]:
            answer = self._call(
                "POST",
                f"/v1/ledgers/{self.ledger}/transactions:stream",
                content=b"\n".join(msgspec.json.encode(posting) for posting in postings) + b"\n",
                headers={"content-type": "application/x-ndjson"},
            )
            return [_VERDICT.decode(line) for line in answer.content.splitlines() if line]

        return self._decided(stream, len(postings))

    def post_in_order(self, postings: Sequence[Posting]) -> list[Verdict]:
        """Post transactions whose order matters, in one request: limits hang on it. As `post`."""
        return self._decided(
            lambda: [
                msgspec.convert(result, Verdict)
                for result in self._call(
                    "POST",
                    f"/v1/ledgers/{self.ledger}/transactions:batch",
                    content=msgspec.json.encode({"transactions": postings}),
                    headers={"content-type": "application/json"},
                ).json()["results"]
            ],
            len(postings),
        )

    def _decided(self, post: Callable[[], list[Verdict]], count: int) -> list[Verdict]:
        """Verdicts without a doubt in them. Keys make it harmless to ask again until then."""
        for attempt in range(1, _TRIES + 1):
            verdicts = post()
            undecided = len(verdicts) != count or any(
                verdict.status == "unknown" or verdict.code in _AGAIN for verdict in verdicts
            )
            if not undecided:
                return verdicts
            time.sleep(0.1 * 2**attempt)
        raise ApiUnavailableError(self._http.base_url, "transactions stay undecided")

    def post_batches(
        self, postings: Iterable[Sequence[Posting]], concurrency: int
    ) -> Iterator[list[Verdict]]:
        """Post batches, `concurrency` at a time; verdicts come in the order of the batches.

        More than one at a time gives up the order between batches.
        """
        under_way: deque[Future[list[Verdict]]] = deque()
        with ThreadPoolExecutor(concurrency, thread_name_prefix="post") as pool:
            try:
                for batch in postings:
                    under_way.append(pool.submit(self.post, batch))
                    if len(under_way) >= concurrency:
                        yield under_way.popleft().result()
                while under_way:
                    yield under_way.popleft().result()
            finally:
                for future in under_way:
                    future.cancel()
