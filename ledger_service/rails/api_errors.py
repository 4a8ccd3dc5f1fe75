"""How our API's answers become named errors of commands."""

from __future__ import annotations

import httpx


class ApiUnavailableError(Exception):
    """The ledger API does not answer."""

    code = "api_unavailable"

    def __init__(self, url: object, error: Exception | str) -> None:
        name = error if isinstance(error, str) else type(error).__name__
        super().__init__(
            f"The ledger API at {url} does not answer ({name}); start it with `tally up`, or set "
            "TALLYSTICK_API_URL."
        )


class ApiRefusedError(Exception):
    """The ledger API refused; `code` is the problem's, `detail` what it says to do."""

    def __init__(self, code: str, detail: str, status: int, request_id: str) -> None:
        super().__init__(f"The ledger API refused: {detail} (request {request_id})")
        self.code = code
        self.status = status


def raise_for(answer: httpx.Response) -> httpx.Response:
    """The answer itself if it is a success. Errors: the two above."""
    if answer.is_success:
        return answer
    try:
        problem = answer.json()
        refused = ApiRefusedError(
            str(problem["code"]),
            str(problem.get("detail", "")),
            answer.status_code,
            str(problem.get("request_id", "unknown")),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ApiUnavailableError(answer.url, f"status {answer.status_code}") from None
    raise refused
