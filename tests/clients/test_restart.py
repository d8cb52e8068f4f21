"""The server dies without a word and comes back: every client finds it again by itself."""

from __future__ import annotations

import signal

import pytest

from tests.clients.driver import SUCCEEDED, PusherJs
from tests.clients.pysher_client import SUCCEEDED as PYSHER_SUCCEEDED
from tests.clients.pysher_client import pysher_subscribed
from tests.conftest import StartServer
from tests.harness import ROOMS, eventually, room_updated, token

pytestmark = [pytest.mark.clients, pytest.mark.timeout(180)]

# pusher-js waits 15 s after a TCP refusal, then 30 s; no option shortens that.
BACK_WITHIN_S = 60


async def test_clients_come_back_after_the_server_was_killed(
    start_server: StartServer, pusher_js: PusherJs
) -> None:
    """After SIGKILL and a new start on the same port, both are subscribed again and hear events."""
    server = await start_server()
    await pusher_js.open(server, token=token(), sub="staff-1")
    await pusher_js.tell("signin")
    await pusher_js.subscribed(ROOMS)
    with pysher_subscribed(server, ROOMS, "room_updated") as pysher:
        await eventually(lambda: pysher.named(PYSHER_SUCCEEDED))

        server.end(signal.SIGKILL)
        server.start()
        await server.wait_until_ready()

        await pusher_js.until("event", BACK_WITHIN_S, channel=ROOMS, event=SUCCEEDED)
        await eventually(lambda: len(pysher.named(PYSHER_SUCCEEDED)) == 2, within_s=BACK_WITHIN_S)
        await server.publish(ROOMS, room_updated("417"))
        event = await pusher_js.until("event", event="room_updated")
        assert event["data"]["payload"]["room_number"] == "417"
        (heard,) = await eventually(lambda: pysher.named("room_updated"))
        assert heard == event["data"]
    assert len(pusher_js.seen("token_asked")) == 2
