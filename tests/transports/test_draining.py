"""A node that is asked to stop: its clients are sent away gently, and nobody is left unanswered."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import uuid
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from auth.apps import App
from auth.request_auth import sign_request
from tests.conftest import StartServer
from tests.harness import (
    APP_ID,
    APP_KEY,
    APP_SECRET,
    Client,
    Server,
    eventually,
    new_hotel,
    room_updated,
    token,
)

CLIENTS = 12


@pytest.fixture
def settings(server: Server) -> dict[str, str]:
    """An installation of the test's own on the shared Valkey."""
    prefix = f"draining-{uuid.uuid4().hex[:8]}:"
    return {"REDIS_URL": server.redis_url, "BELLHOP_REDIS_PREFIX": prefix}


async def clients_of(node: Server, stack: AsyncExitStack, count: int = CLIENTS) -> list[Client]:
    """Open clients of different people."""
    return [
        await stack.enter_async_context(node.client(f"/t/{token(f'staff-{number}')}"))
        for number in range(count)
    ]


def listens(node: Server) -> bool:
    """Whether a TCP connection is taken."""
    try:
        socket.create_connection(("127.0.0.1", node.port)).close()
    except ConnectionRefusedError:
        return False
    return True


def told(code: int, frames: list[dict[str, Any]]) -> bool:
    """Whether a client was told the code by which it was closed, and nothing else."""
    return [(each["event"], each["data"]["code"]) for each in frames] == [("pusher:error", code)]


async def test_clients_are_sent_to_another_node_a_few_at_a_time(
    settings: dict[str, str], start_server: StartServer
) -> None:
    """With 4200; meanwhile it is unready, takes whoever still comes, and tells them 4100."""
    await start_server(**settings)
    node = await start_server(**settings, BELLHOP_DRAIN_S="1.5")
    async with AsyncExitStack() as stack:
        clients = await clients_of(node, stack)
        ending = asyncio.create_task(asyncio.to_thread(node.end))
        closes = [asyncio.create_task(client.closed()) for client in clients]
        await asyncio.wait(closes, return_when=asyncio.FIRST_COMPLETED)
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{node.url}/health/ready")
            assert answer.status_code == 503
            assert "draining" in answer.json()["reason"]
            assert (await http.get(f"{node.url}/health/live")).status_code == 200
        async with node.connect() as late:
            code, frames = await Client(late).closed()
        assert code == 4100
        assert told(4100, frames)
        waiting = [close for close in closes if not close.done()]
        assert waiting
        while waiting:
            assert listens(node)
            _, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            waiting = list(rest)
        for close in closes:
            code, frames = close.result()
            assert code == 4200
            assert told(4200, frames)
        assert await ending == 0


async def test_readiness_ends_before_the_first_client_is_sent_away(
    settings: dict[str, str], start_server: StartServer
) -> None:
    """Whoever asks where to go is not sent here from the signal on."""
    await start_server(**settings)
    # So slow that the last client is still there at the end of the test.
    node = await start_server(**settings, BELLHOP_DRAIN_S="600")
    async with AsyncExitStack() as stack, httpx.AsyncClient() as http:
        *_, last = await clients_of(node, stack)
        assert node.process is not None
        node.process.terminate()
        await eventually(lambda: node.log_events("node.draining"))
        assert (await http.get(f"{node.url}/health/ready")).status_code == 503
        await last.quiet()
        # Asked a second time, it stops at once.
        assert await asyncio.to_thread(node.end) == 0


async def test_clients_go_together_when_there_is_no_other_node(
    settings: dict[str, str], start_server: StartServer
) -> None:
    """Waiting would only keep them from the node that is to come."""
    node = await start_server(**settings, BELLHOP_DRAIN_S="600")
    async with AsyncExitStack() as stack:
        clients = await clients_of(node, stack)
        ending = asyncio.create_task(asyncio.to_thread(node.end))
        for client in clients:
            code, frames = await client.closed()
            assert code == 4200
            assert told(4200, frames)
        assert await ending == 0


async def test_trigger_that_is_under_way_is_answered(
    settings: dict[str, str], start_server: StartServer
) -> None:
    """Its body comes when nobody else is listened to any more: 200, and the event is stored."""
    channel = f"{(hotel := new_hotel())}.rooms"
    other = await start_server(**settings)
    node = await start_server(**settings)
    data = json.dumps(room_updated(hotel=hotel))
    body = json.dumps({"name": "room_updated", "channel": channel, "data": data}).encode()
    path = f"/apps/{APP_ID}/events"
    query = sign_request(App(APP_ID, APP_KEY, APP_SECRET), "POST", path, body, time.time())
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    head = (
        f"POST {path}?{urlencode(query)} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body[:20])
    await writer.drain()
    # What is answered on another connection was sent later.
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"{node.url}/health/live")).status_code == 200
    ending = asyncio.create_task(asyncio.to_thread(node.end))
    await eventually(lambda: not listens(node))
    writer.write(body[20:])
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert await ending == 0
    past = await other.api("GET", f"/apps/{APP_ID}/channels/{channel}/events")
    assert [event["data"] for event in past.json()["events"]] != []
