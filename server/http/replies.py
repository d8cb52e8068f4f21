"""What an endpoint of Pusher's HTTP API answers, without a framework's response around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import orjson
from starlette.types import Send

Headers = tuple[tuple[bytes, bytes], ...]

_JSON: Final = (b"content-type", b"application/json")


@dataclass(slots=True)
class Reply:
    """A status, a JSON body, and headers beside its type and length."""

    status: int
    body: bytes = b"{}"
    headers: Headers = ()

    async def send(self, send: Send) -> None:
        """Send it."""
        length = (b"content-length", b"%d" % len(self.body))
        headers = [_JSON, length, *self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def reply(content: object, status: int = 200, headers: Headers = ()) -> Reply:
    """Answer with JSON."""
    return Reply(status, orjson.dumps(content), headers)
