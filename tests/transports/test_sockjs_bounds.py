"""The fallbacks' own parts: how many sessions wait, and what becomes of joined frames."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message

from server.transports import sockjs
from server.transports.http import CONNECTION
from server.transports.sockjs import SockJs
from server.transports.websocket import join, split
from tests.transports.test_door import door


async def status(app: SockJs, session: str, what: str, body: bytes = b"") -> int:
    """Send one request and return the answer's status."""
    sent: list[Message] = []
    told = False

    async def receive() -> Message:
        nonlocal told
        if told:
            await asyncio.Event().wait()
        told = True
        return {"type": "http.request", "body": body}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "raw_path": f"/pusher/t/a.ok/app/key-1/1/{session}/{what}".encode(),
        "query_string": b"protocol=7",
        "headers": [],
        "client": ("192.0.2.1", 50_000),
        "extensions": {CONNECTION: {"abort": lambda: None}},
    }
    await app(scope, receive, send)
    return int(sent[0]["status"])


async def test_sessions_that_wait_longest_go_when_too_many_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who asks again and again waits for moments only: those who left make room."""
    monkeypatch.setattr(sockjs, "MAX_WAITING", 2)
    app = SockJs(door(), PlainTextResponse("elsewhere", 404))
    for session in ("one", "two"):
        assert await status(app, session, "xhr") == 200
    assert await status(app, "one", "xhr_send", b'["{\\"event\\":\\"pusher:ping\\"}"]') == 204
    assert await status(app, "one", "xhr") == 200
    assert await status(app, "three", "xhr") == 200
    assert [
        await status(app, session, "xhr_send", b"[]") for session in ("one", "two", "three")
    ] == [
        204,
        404,
        204,
    ]
    app.end()
    assert await status(app, "three", "xhr_send", b"[]") == 404


def test_joined_frames_are_found_again() -> None:
    """Whatever their lengths: each has one of three forms."""
    frames = [b"x" * size for size in (0, 1, 125, 126, 127, 65_535, 65_536, 300_000, 3)]
    assert split(join(frames)) == frames
    assert [split(join([frame])) for frame in frames] == [[frame] for frame in frames]
    assert split(b"") == []
