"""A raw client of the HTTP fallbacks: every request and every line as they are."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from tests.harness import APP_KEY, DEADLINE_S, Server

SUCCEEDED: Final = "pusher_internal:subscription_succeeded"
GREETING: Final = "pusher:connection_established"
PRELUDE: Final = "h" * 2048
_TLS: Final = ssl.create_default_context()

Frame = dict[str, Any]


def decoded(line: str) -> list[Frame]:
    """Return the frames of an `a` line, ``data`` decoded where it is JSON."""
    assert line.startswith("a["), line
    frames = [json.loads(text) for text in json.loads(line[1:])]
    for frame in frames:
        if isinstance(frame.get("data"), str):
            with contextlib.suppress(ValueError):
                frame["data"] = json.loads(frame["data"])
    return frames


def told(lines: list[str]) -> tuple[int, str]:
    """Return code and reason of the last line, which closes."""
    assert lines[-1].startswith("c["), lines
    code, reason = json.loads(lines[-1][1:])
    return code, reason


@dataclass
class Stream:
    """One response of `xhr_streaming` while it is open."""

    response: httpx.Response
    lines: AsyncIterator[str]
    waiting: list[Frame] = field(default_factory=list)
    said: int = 0
    """Characters so far, as XMLHttpRequest counts them."""

    async def line(self) -> str:
        """Return the next line."""
        async with asyncio.timeout(DEADLINE_S):
            line = await anext(self.lines)
        self.said += len(line) + 1
        return line

    async def next(self) -> Frame:
        """Return the next frame, whatever line it is in."""
        while not self.waiting:
            line = await self.line()
            self.waiting = [] if line == "h" else decoded(line)
        return self.waiting.pop(0)

    async def until(self, event: str) -> Frame:
        """Return the next frame of one event, passing over others."""
        while True:
            frame = await self.next()
            if frame["event"] == event:
                return frame

    async def rest(self) -> list[str]:
        """Return all lines up to the end of the response."""
        async with asyncio.timeout(DEADLINE_S):
            return [line async for line in self.lines]


@dataclass
class Fallback:
    """One session of a client."""

    server: Server
    http: httpx.AsyncClient
    path: str
    session: str = field(default_factory=lambda: f"7/{uuid.uuid4().hex[:8]}")
    origin: str | None = None

    async def post(self, what: str, content: bytes = b"", **params: str) -> httpx.Response:
        """Send one request."""
        return await self.http.post(content=content, **self._request(what, params))

    def _request(self, what: str, params: dict[str, str]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        if self.origin is not None:
            headers["Origin"] = self.origin
        url = f"{self.server.url}/pusher{self.path}/{self.session}/{what}"
        return {"url": url, "params": params, "headers": headers}

    async def send(self, event: str, data: Any = None, **params: str) -> httpx.Response:
        """Send one frame."""
        return await self.messages({"event": event, "data": data or {}}, **params)

    async def messages(self, *frames: Frame, **params: str) -> httpx.Response:
        """Send frames in one request."""
        body = json.dumps([json.dumps(frame) for frame in frames]).encode()
        return await self.post("xhr_send", body, **params)

    @contextlib.asynccontextmanager
    async def streaming(self, *, opened: bool = True, **params: str) -> AsyncIterator[Stream]:
        """Ask for frames in a response without an end; it is cut at the end of the body."""
        request = self._request("xhr_streaming", {"protocol": "7", **params})
        async with self.http.stream("POST", **request) as response:
            assert response.status_code == 200
            stream = Stream(response, response.aiter_lines())
            assert await stream.line() == PRELUDE
            if opened:
                assert await stream.line() == "o"
            yield stream

    @contextlib.asynccontextmanager
    async def subscribed(self, channel: str) -> AsyncIterator[Stream]:
        """Open the session, and subscribe."""
        async with self.streaming() as stream:
            await stream.until(GREETING)
            assert (await self.send("pusher:subscribe", {"channel": channel})).status_code == 204
            assert (await stream.until(SUCCEEDED))["channel"] == channel
            yield stream

    async def poll(self, **params: str) -> list[str]:
        """Ask for frames once, and return the lines."""
        response = await self.post("xhr", b"", protocol="7", **params)
        assert response.status_code == 200
        assert response.text.endswith("\n")
        return response.text.splitlines()

    async def poll_until(self, event: str) -> Frame:
        """Ask until a frame of the event has come, and return it."""
        while True:
            for line in await self.poll():
                for frame in decoded(line) if line.startswith("a") else ():
                    if frame["event"] == event:
                        return frame

    async def waiting(self) -> asyncio.Task[httpx.Response]:
        """Open the session, and return a poll of it that has reached the server."""
        await self.poll()
        polls = [asyncio.create_task(self.post("xhr", protocol="7")) for _ in range(2)]
        # Whichever comes second takes the place of the other.
        done, waiting = await asyncio.wait(polls, return_when=asyncio.FIRST_COMPLETED)
        assert told(done.pop().result().text.splitlines())[0] == 2010
        return waiting.pop()


@contextlib.asynccontextmanager
async def fallback(server: Server, path: str = "", key: str = APP_KEY) -> AsyncIterator[Fallback]:
    """Return a session that no request has opened yet; ``path`` goes before `/app/{key}`."""
    timeout = httpx.Timeout(DEADLINE_S)
    async with httpx.AsyncClient(timeout=timeout, verify=_TLS) as http:
        yield Fallback(server, http, f"{path}/app/{key}")
