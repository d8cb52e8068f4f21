"""A family whose authorizer is the callback: the backend decides who enters, and until when."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from channels_spec.reading import HOTEL_CONTRACT
from tests.conftest import StartServer
from tests.harness import APP_KEY, APP_SECRET, HOTEL, Server, eventually, token
from tests.server.test_authorizer import NO, Backend, Question

TALK = "staff-chat-conversation-c7"


@pytest_asyncio.fixture
async def backend() -> AsyncIterator[Backend]:
    """A backend that says yes, until it is told otherwise."""
    asked = Backend()
    server = await asyncio.start_server(asked.serve, "127.0.0.1", 0)
    asked.port = server.sockets[0].getsockname()[1]
    async with server:
        yield asked


def contract(folder: Path) -> Path:
    """Write the hotel contract with the conversations' authorizer changed."""
    document = yaml.safe_load(HOTEL_CONTRACT.read_text("utf-8"))
    family = next(
        each
        for each in document["channels"].values()
        if each["address"].startswith("staff-chat-conversation-")
    )
    family["x-bellhop-authorizer"] = "callback"
    path = folder / "contract.yaml"
    path.write_text(yaml.safe_dump(document), "utf-8")
    return path


@pytest_asyncio.fixture
async def asking(
    start_server: StartServer, backend: Backend, tmp_path: Path
) -> AsyncIterator[Server]:
    """A server that asks the backend about conversations."""
    settings = {
        "BELLHOP_CONTRACT": str(contract(tmp_path)),
        "BELLHOP_AUTHORIZER_URL": backend.url,
    }
    yield await start_server(**settings)


def message(text: str) -> dict[str, Any]:
    """Return a chat message as a backend publishes it."""
    return {
        "category": "staff_chat",
        "type": "staff_chat_message_created",
        "payload": {"message_id": "m1", "conversation_id": "c7", "body": text},
        "meta": {"hotel_slug": HOTEL, "ts": "2025-12-20T10:30:00Z", "scope": {}},
    }


async def test_backend_lets_in_whom_the_token_does_not_name(
    asking: Server, backend: Backend
) -> None:
    """The question is signed, says who asks and what their token says, and its yes opens."""
    async with asking.staff(TALK, name="Ann") as client:
        await asking.publish(TALK, message("hello"))
        assert (await client.next())["data"]["payload"]["body"] == "hello"
    (question,) = backend.asked
    assert question.asked["channel"] == TALK
    assert question.asked["socket_id"] == client.socket_id
    assert question.asked["claims"]["sub"] == "staff-1"
    assert question.headers["x-pusher-key"] == APP_KEY
    digest = hmac.new(APP_SECRET.encode(), question.body, hashlib.sha256).hexdigest()
    assert question.headers["x-pusher-signature"] == digest


async def test_backend_that_says_no_keeps_the_channel_shut(
    asking: Server, backend: Backend
) -> None:
    """Also for whom the token names; and another hotel's staff are not even asked about."""
    backend.answer = lambda _question: NO
    async with asking.staff(conversations=["c7"]) as client:
        assert (await client.refused(TALK))["status"] == 403
    async with asking.staff(hotels=[]) as stranger:
        assert (await stranger.refused(TALK))["status"] == 403
    assert len(backend.asked) == 1


async def test_backend_that_does_not_answer_refuses_and_says_so(
    asking: Server, backend: Backend
) -> None:
    """An outage never opens."""
    backend.answer = lambda _question: (503, b"")
    async with asking.staff() as client:
        assert "authorizer" in (await client.refused(TALK))["error"]


async def test_backend_is_asked_again_when_its_answer_has_run_out(
    asking: Server, backend: Backend
) -> None:
    """A subscription ends when the backend takes its leave back, and returns with it."""

    def once(_question: Question) -> tuple[int, bytes]:
        return 200, json.dumps({"allowed": len(backend.asked) != 2, "ttl": 1}).encode()

    backend.answer = once
    async with asking.client(f"/t/{token()}") as client:
        await client.subscribe(TALK)
        lost = await client.until("pusher:subscription_error")
        assert lost["channel"] == TALK
        await client.until("pusher_internal:subscription_succeeded")
        await asking.publish(TALK, message("again"))
        assert (await client.until("staff_chat_message_created"))["channel"] == TALK
    assert await eventually(lambda: len(backend.asked) >= 3)


@pytest.mark.parametrize("kind", ["service"])
async def test_operators_need_no_leave(asking: Server, backend: Backend, kind: str) -> None:
    """A machine of the hotel hears every channel of its hotels."""
    async with asking.staff(TALK, kind=kind) as client:
        await client.quiet()
    assert backend.asked == []
