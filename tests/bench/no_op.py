"""A raw ASGI route that reads a request's body and does nothing with it: what HTTP alone costs."""

from __future__ import annotations

import sys
from typing import Any

import uvicorn


def _application(answer: bytes) -> Any:
    head = {
        "type": "http.response.start",
        "status": 201,
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(answer)).encode()),
        ],
    }

    async def answering(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        while (await receive()).get("more_body"):
            pass
        await send({**head, "status": 200} if scope["method"] == "GET" else head)
        await send({"type": "http.response.body", "body": answer})

    return answering


if __name__ == "__main__":
    # Settings as those of the API.
    uvicorn.run(
        _application(b" " * int(sys.argv[2])),
        port=int(sys.argv[1]),
        loop="uvloop",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
    )
