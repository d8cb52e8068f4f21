"""Every released publisher and every released subscriber, together."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from tests.clients.driver import PusherJs, own_token
from tests.clients.pysher_client import SUCCEEDED, PysherClient, pysher_subscribed
from tests.harness import ROOMS, Server, eventually, room_updated

pytestmark = pytest.mark.clients


def _with_id(room: str) -> dict[str, Any]:
    event = room_updated(room)
    event["meta"]["event_id"] = str(uuid4())
    return event


async def _both(pusher_js: PusherJs, pysher: PysherClient, event_id: str) -> dict[str, Any]:
    """Await that one event has reached both clients, the same, and return it."""

    def of_pysher() -> list[Any]:
        heard = pysher.named("room_updated")
        return [data for data in heard if data["meta"]["event_id"] == event_id]

    while True:
        event = await pusher_js.until("event", event="room_updated")
        if event["data"]["meta"]["event_id"] == event_id:
            break
    assert await eventually(of_pysher) == [event["data"]]
    return dict(event["data"])


async def test_every_entrance_reaches_every_client_the_same(
    server: Server, pusher_js: PusherJs
) -> None:
    """pusher-js and Pysher get equal envelopes, whoever published, numbered across entrances."""
    await pusher_js.open(server, options={"wsPath": f"/t/{own_token()}"})
    await pusher_js.subscribed(ROOMS)
    with pysher_subscribed(server, ROOMS, "room_updated") as pysher:
        await eventually(lambda: pysher.named(SUCCEEDED))
        by_http, by_redis, wrapped = _with_id("1"), _with_id("2"), _with_id("3")

        assert server.pusher().trigger(ROOMS, "room_updated", by_http) == {}
        first = await _both(pusher_js, pysher, by_http["meta"]["event_id"])

        await server.publish(ROOMS, by_redis)
        second = await _both(pusher_js, pysher, by_redis["meta"]["event_id"])

        await server.publish(ROOMS, {"event": "room_updated", "data": json.dumps(wrapped)})
        third = await _both(pusher_js, pysher, wrapped["meta"]["event_id"])

    for sent, got in [(by_http, first), (by_redis, second), (wrapped, third)]:
        assert got["payload"] == sent["payload"]
        assert got["type"] == "room_updated"
    numbers = [got["meta"]["sequence"] for got in (first, second, third)]
    assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2]


async def test_publisher_is_not_echoed_to_by_its_socket_id(
    server: Server, pusher_js: PusherJs
) -> None:
    """The page that caused a change, named by `socket_id`, does not hear of it; others do."""
    await pusher_js.open(server, options={"wsPath": f"/t/{own_token()}"})
    await pusher_js.subscribed(ROOMS)
    socket_id = (await pusher_js.standing())["socket_id"]
    with pysher_subscribed(server, ROOMS, "room_updated") as pysher:
        await eventually(lambda: pysher.named(SUCCEEDED))
        server.pusher().trigger(ROOMS, "room_updated", room_updated("mine"), socket_id)
        await eventually(lambda: pysher.named("room_updated"))
    await pusher_js.fence()
    assert not pusher_js.seen("event", event="room_updated")
