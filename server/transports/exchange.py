"""One request and its answer in ASGI's messages, as far as the fallbacks need them."""

from __future__ import annotations

import asyncio
from typing import Final, TypeVar

import orjson
from starlette.types import Receive, Send

MAX_BODY: Final = 256 * 1024
"""Bytes of a request: the largest message, escaped by JSON, and twice as much again."""

Pairs = tuple[tuple[bytes, bytes], ...]
_Result = TypeVar("_Result")

# For any page: the answer to one whose origin is not allowed says just that. Cookies are no matter:
# without allow-credentials no page of another origin reads what it asks for with them.
OPEN_TO_ALL: Final[Pairs] = ((b"access-control-allow-origin", b"*"),)


class Gone(Exception):
    """The client went away before it was answered."""


class TooLarge(Exception):
    """A request's body exceeds its bound."""

    def __init__(self, read: bytes) -> None:
        super().__init__("the request's body is too large")
        self.read = read
        """What has come of it: more than the bound by a piece at most."""


async def body_of(receive: Receive) -> bytes:
    """Return a request's body; raises `TooLarge`, and `Gone`."""
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Gone
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > MAX_BODY:
            raise TooLarge(b"".join(chunks))
        more = message.get("more_body", False)
    return b"".join(chunks)


async def gone(receive: Receive) -> None:
    """Return when the client, whose request has been read, is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_there(result: asyncio.Future[_Result], receive: Receive) -> _Result:
    """Await a result for a client; raises `Gone` where the client does not."""
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(gone(receive))
        await asyncio.wait((result, watching), return_when=asyncio.FIRST_COMPLETED)
        watching.cancel()
    if not result.done():
        raise Gone
    return result.result()


async def more(send: Send, body: bytes) -> None:
    """Go on with an answer."""
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def refuse(send: Send, status: int, reason: str, *headers: tuple[bytes, bytes]) -> None:
    """Answer with a reason why not, as JSON."""
    headers = (*OPEN_TO_ALL, (b"content-type", b"application/json"), *headers)
    await answer(send, status, orjson.dumps({"error": reason}), headers)


async def answer(send: Send, status: int, body: bytes = b"", headers: Pairs = ()) -> None:
    """Answer as a whole."""
    # A 204 has no length, not even 0.
    length = () if status == 204 else ((b"content-length", b"%d" % len(body)),)  # noqa: PLR2004
    await send({"type": "http.response.start", "status": status, "headers": (*headers, *length)})
    await send({"type": "http.response.body", "body": body})
