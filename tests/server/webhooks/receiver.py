"""A backend's endpoint for webhooks: a small HTTP server that remembers what it was posted."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

HANG = 0
"""Answer nothing and keep the connection."""
CUT = -1
"""Close the connection instead of an answer."""


@dataclass(frozen=True)
class Post:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = json.loads(self.body)["events"]
        return events

    @property
    def time_ms(self) -> int:
        time_ms: int = json.loads(self.body)["time_ms"]
        return time_ms


@dataclass
class Receiver:
    """What came, and how it is answered."""

    port: int = 0
    answer: Callable[[Post], int] = field(default=lambda _post: 200)
    posts: list[Post] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    """The events of the posts that were answered well, in their order."""
    body: bytes = b""
    missing: int = 0
    """Bytes of the body that are announced and never sent."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Nothing is answered while this is cleared."""

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def seen(self, key: str = "channel") -> list[Any]:
        """Return one field of every event that was taken."""
        return [event.get(key) for event in self.taken]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests."""
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._request(reader, writer):
                    pass
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        lowered = {name.lower(): value for name, value in headers.items()}
        body = await reader.readexactly(int(lowered["content-length"]))
        post = Post(first.split(" ")[1], headers, body)
        self.posts.append(post)
        await self.gate.wait()
        status = self.answer(post)
        if status == HANG:
            await reader.read()
            return False
        if status == CUT:
            return False
        if 200 <= status < 300:
            self.taken += post.events
        location = f"Location: {self.url}/elsewhere\r\n" if 300 <= status < 400 else ""
        length = f"Content-Length: {len(self.body) + self.missing}\r\n"
        writer.write(f"HTTP/1.1 {status} X\r\n{location}{length}\r\n".encode() + self.body)
        await writer.drain()
        return True


@contextlib.asynccontextmanager
async def receiving(*answers: int) -> AsyncIterator[Receiver]:
    """Run a receiver that gives these answers first, and then 200."""
    receiver = Receiver()
    following = iter(answers)
    receiver.answer = lambda _post: next(following, 200)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()


def has(receiver: Receiver, count: int) -> bool:
    """Whether as many events were taken."""
    return len(receiver.taken) == count
