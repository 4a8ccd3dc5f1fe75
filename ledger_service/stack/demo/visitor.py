"""How the demo's people and programs reach the system: the API by token, the console by its forms."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from html import unescape
from typing import Any

import httpx

from ledger_service.stack.errors import StackError
from ledger_service.stack.home import Home

_CSRF = re.compile(r'name="csrf"\s+value="([^"]+)"')


class Refused(StackError):
    """The API or the console said no."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.status = status


def identities(home: Home) -> dict[str, Any]:
    """The demo's users and keys, as `tally identities provision` left them."""
    return json.loads(home.secret_file("identities.json").read_text())


class Api:
    """The ledger API with one token."""

    def __init__(self, home: Home, *, key: str | None = None, user: str | None = None) -> None:
        self._http = httpx.Client(base_url=f"http://{home.address('api')}", timeout=60)
        known = identities(home)
        if key:
            token = known["keys"][key]["token"]
        else:
            body = {"username": user, "password": known["users"][user]["password"]}
            token = self.post("/v1/sessions", body)["token"]
        self._http.headers["authorization"] = f"Bearer {token}"

    def get(self, path: str, **query: Any) -> Any:
        """The answer's JSON. Errors: `Refused`."""
        return self._read(self._http.get(path, params=query))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer's JSON. Errors: `Refused`."""
        return self._read(self._http.post(path, json=body))

    def lines(self, path: str, **query: Any) -> Iterator[bytes]:
        """The lines of an NDJSON answer, as bytes."""
        with self._http.stream("GET", path, params=query) as answer:
            if answer.is_error:
                answer.read()
                self._read(answer)
            rest = b""
            for chunk in answer.iter_bytes():
                *whole, rest = (rest + chunk).split(b"\n")
                yield from (line for line in whole if line)
            if rest:
                yield rest

    @staticmethod
    def _read(answer: httpx.Response) -> Any:
        if answer.is_error:
            try:
                problem = answer.json()
            except ValueError:
                problem = {}
            raise Refused(
                answer.status_code,
                problem.get("code", "http_error"),
                problem.get("detail", f"{answer.request.url.path} answered {answer.status_code}"),
            )
        return answer.json()


class Person:
    """Somebody at the console: signs in and sends forms, as a browser would."""

    def __init__(self, home: Home, name: str) -> None:
        self.name = name
        self._http = httpx.Client(
            base_url=f"http://{home.address('console')}", timeout=60, follow_redirects=True
        )
        password = identities(home)["users"][name]["password"]
        self.send("/sign-in", "/sign-in", username=name, password=password)

    def open(self, path: str) -> str:
        """The page's HTML. Errors: `Refused`."""
        answer = self._http.get(path)
        if answer.is_error:
            raise Refused(
                answer.status_code, "page_refused", f"{path} answered {answer.status_code}"
            )
        return answer.text

    def download(self, path: str) -> bytes:
        """A file behind the sign-in. Errors: `Refused`."""
        answer = self._http.get(path)
        if answer.is_error:
            raise Refused(
                answer.status_code, "file_refused", f"{path} answered {answer.status_code}"
            )
        return answer.content

    def send(self, page: str, action: str, **fields: str) -> tuple[int, str]:
        """Open `page`, fill its form and send it to `action`; gives status and HTML of the answer."""
        found = _CSRF.search(self.open(page))
        if found is None:
            raise Refused(500, "no_form", f"{page} holds no form")
        origin = str(self._http.base_url).rstrip("/")
        answer = self._http.post(
            action, data={"csrf": unescape(found[1]), **fields}, headers={"origin": origin}
        )
        return answer.status_code, answer.text


def eventually(what: str, seconds: float, probe: Any) -> Any:
    """The first true answer of `probe`, asked four times a second. Errors: `not_in_time`."""
    end = time.monotonic() + seconds
    while True:
        if answer := probe():
            return answer
        if time.monotonic() > end:
            raise StackError("not_in_time", f"{what} did not happen within {seconds:.0f} s.")
        time.sleep(0.25)
