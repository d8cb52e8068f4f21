"""What a client missed comes by HTTP as it comes by WebSocket."""

from __future__ import annotations

import asyncio

import pytest

from tests.broker.returns import GAP, PINGS, UPDATED, Device, Nodes, Place, shown
from tests.clients.driver import SUCCEEDED, PusherJs, fallback_options
from tests.clients.hosts import NODE, process_host
from tests.harness import eventually
from tests.transports.cut import wire_to
from tests.transports.fallback import SUCCEEDED as SUBSCRIBED
from tests.transports.fallback import fallback

FALLBACKS = ("xhr_streaming", "xhr_polling")


@pytest.mark.clients
@pytest.mark.parametrize("transport", FALLBACKS)
async def test_stock_pusher_js_shows_every_event(
    nodes: Nodes, place: Place, transport: str
) -> None:
    """Its link is cut in the midst of a stream of events: it comes back by itself, with all."""
    device = Device(place)
    stop = asyncio.Event()
    async with wire_to(nodes[0].port) as wire, process_host(NODE) as host:
        client = host.new("pusher-js", PusherJs)
        path = f"/s/{device.instance}/t/{device.token}"
        await client.open(nodes[0], options=fallback_options(wire.port, transport, path))
        await client.subscribed(place.channel)
        publishing = asyncio.create_task(place.publish_on(nodes[1], stop))
        try:
            # A second death within one page makes pusher-js give a streaming transport up.
            await client.until("event", event=UPDATED)
            wire.hold_up()
            # Between two polls nobody would notice.
            await eventually(lambda: wire.held)
            wire.cut()
            wire.let_go()
            wire.mend()
            await client.until("event", channel=place.channel, event=SUCCEEDED)
        finally:
            stop.set()
            await publishing
        await eventually(lambda: shown(client)[-1:] == [place.published])
        await client.tell("disconnect")
    assert list(dict.fromkeys(shown(client))) == place.since(1)
    assert client.seen("event", event=GAP) == []


@pytest.mark.long
async def test_answered_ping_proves_what_came_before(nodes: Nodes, place: Place) -> None:
    """The server's pings are answered by requests: what they prove does not come again."""
    device = Device(place)
    path = f"/s/{device.instance}/t/{device.token}"
    async with fallback(nodes[0], path) as before:
        await before.poll()
        await before.send("pusher:subscribe", {"channel": place.channel})
        await before.poll_until(SUBSCRIBED)
        await place.publish(nodes[1])
        await before.poll_until(UPDATED)
        for _ in range(PINGS):
            await before.poll_until("pusher:ping")
            await before.send("pusher:pong")
    await place.publish(nodes[1])
    async with fallback(nodes[1], path) as after, after.subscribed(place.channel) as stream:
        frame = await stream.until(UPDATED)
        assert frame["data"]["payload"]["room_number"] == "2"
