"""An answer of JSON that is bytes already."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.responses import Response


class JsonBytes(Response):
    """Made with its headers as they are sent, in a tenth of the time that its parent class takes."""

    media_type = "application/json"

    def __init__(
        self, content: bytes, status_code: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        """`headers`: what it has besides length and type."""
        self.status_code, self.body, self.background = status_code, content, None
        self.raw_headers = [
            (b"content-length", b"%d" % len(content)),
            (b"content-type", b"application/json"),
            *headers,
        ]
