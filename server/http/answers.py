"""Answers that all HTTP endpoints share."""

from __future__ import annotations

import orjson
from starlette.requests import Request
from starlette.responses import Response


class JSON(Response):
    """A JSON response by orjson."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Encode the body."""
        return orjson.dumps(content)


class Refused(Exception):
    """A request is refused with a status and a reason; one place turns it into a response."""

    def __init__(self, status: int, reason: str, **details: object) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.details = details


async def refused(request: Request, error: Exception) -> Response:
    """Answer a `Refused`."""
    del request
    if not isinstance(error, Refused):
        raise error
    return JSON({"error": error.reason, **error.details}, status_code=error.status)


async def body_of(request: Request, limit: int) -> bytes:
    """Read a request's body of at most ``limit`` bytes; more is refused with 413."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise Refused(413, f"the request's body exceeds {limit} bytes")
        chunks.append(chunk)
    return b"".join(chunks)
