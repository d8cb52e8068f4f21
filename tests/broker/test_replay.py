"""A client that comes back has every event that was published while it was away, in order."""

from __future__ import annotations

import asyncio
import signal
import uuid
from typing import Any

import pytest

from tests.broker.returns import (
    GAP,
    SETTINGS,
    UPDATED,
    Device,
    Nodes,
    Place,
    drop,
    dropped,
    gone,
    proves,
    shown,
)
from tests.clients.driver import SUCCEEDED, PusherJs, websocket_options
from tests.clients.hosts import NODE, process_host
from tests.conftest import StartServer
from tests.harness import Client, eventually, new_hotel
from tests.transports.cut import wire_to

# --- the stock client ----------------------------------------------------------------------------


@pytest.mark.parametrize("back", [0, 1], ids=["same node", "other node"])
async def test_client_gets_what_it_missed(nodes: Nodes, place: Place, back: int) -> None:
    """Everything after its resume point, before what is live; it only subscribes again."""
    device = Device(place)
    async with device.subscribed(nodes[0]) as before:
        await place.publish(nodes[1])
        await place.last_of(before)
        await dropped(nodes[0], before)
    await place.publish(nodes[1], 5)
    async with device.subscribed(nodes[back]) as after:
        await place.publish(nodes[0])
        told = await place.last_of(after)
        await after.quiet()
    # Nothing is proven of a connection that has answered no ping.
    assert told == place.since(1)
    assert place.gaps(after) == []


@pytest.mark.parametrize("back", [0, 1], ids=["same node", "other node"])
async def test_return_while_events_keep_coming_has_no_hole(
    nodes: Nodes, place: Place, back: int
) -> None:
    """Again and again, in the midst of a stream of events: each once per return, none missing."""
    device = Device(place)
    stop = asyncio.Event()
    publishing = asyncio.create_task(place.publish_on(nodes[1], stop))
    seen: set[int] = set()
    try:
        for turn in range(6):
            async with device.subscribed(nodes[turn % 2 and back]) as client:
                for _ in range(10):
                    await client.next()
                told = place.told(client)
                assert told == list(range(told[0], told[-1] + 1))
                seen.update(told)
                drop(client)
    finally:
        stop.set()
        await publishing
    async with device.subscribed(nodes[0]) as client:
        told = await place.last_of(client)
    seen.update(told)
    assert told == place.since(told[0])
    assert seen == set(place.since(min(seen)))


@pytest.mark.clients
@pytest.mark.parametrize("known_by", ["instance", "sub"])
async def test_stock_pusher_js_shows_every_event(nodes: Nodes, place: Place, known_by: str) -> None:
    """Its link is cut in the midst of a stream of events: it comes back by itself, with all."""
    device = Device(place)
    path = f"/s/{device.instance}" if known_by == "instance" else ""
    stop = asyncio.Event()
    async with wire_to(nodes[0].port) as wire, process_host(NODE) as host:
        client = host.new("pusher-js", PusherJs)
        options = {**websocket_options(wire.port), "wsPath": f"{path}/t/{device.token}"}
        await client.open(nodes[0], options=options)
        await client.subscribed(place.channel)
        publishing = asyncio.create_task(place.publish_on(nodes[1], stop))
        try:
            for _ in range(3):
                await client.until("event", event=UPDATED)
                wire.cut()
                wire.mend()
                await client.until("event", channel=place.channel, event=SUCCEEDED)
        finally:
            stop.set()
            await publishing
        await eventually(lambda: shown(client)[-1:] == [place.published])
        await client.tell("disconnect")
    assert list(dict.fromkeys(shown(client))) == place.since(1)
    assert client.seen("event", event=GAP) == []


async def test_answered_ping_moves_the_resume_point(nodes: Nodes, place: Place) -> None:
    """What came more than a second before the last answered ping was sent does not come again."""
    device = Device(place)
    async with device.subscribed(nodes[0]) as before:
        await place.publish(nodes[0])
        await place.last_of(before)
        await proves(before)
        await dropped(nodes[0], before)
    await place.publish(nodes[0], 2)
    async with device.subscribed(nodes[1]) as after:
        assert await place.last_of(after) == [2, 3]


async def test_half_open_socket_proves_nothing(nodes: Nodes, place: Place) -> None:
    """Writes that a dead link has swallowed are replayed; the old socket still looks open."""
    device = Device(place)
    async with wire_to(nodes[0].port) as wire, device.subscribed(nodes[0], wire.port) as before:
        await place.publish(nodes[0])
        await place.last_of(before)
        await proves(before)
        wire.hold_up()
        await place.publish(nodes[0], 3)
        async with device.subscribed(nodes[0]) as after:
            await place.publish(nodes[0])
            assert await place.last_of(after) == place.since(2)
        drop(before)


async def test_ping_proves_nothing_of_what_the_node_itself_has_not_heard(
    start_server: StartServer, place: Place
) -> None:
    """The bus is held up unnoticed: the client answers pings, but has not got everything."""
    here = await start_server(**SETTINGS)
    device = Device(place)
    async with wire_to(here.port + 1) as wire:
        there = await start_server(**SETTINGS, REDIS_URL=f"redis://127.0.0.1:{wire.port}/0")
        async with device.subscribed(there) as before:
            await place.publish(here)
            await place.last_of(before)
            wire.hold_up_bus()
            await place.publish(here, 3)
            await proves(before)
            assert place.told(before) == [1]
            await dropped(there, before)
        async with device.subscribed(here) as after:
            told = await place.last_of(after)
        there.end()
        assert told[-3:] == [2, 3, 4]
        assert place.gaps(after) == []


async def test_event_that_its_own_backend_kept_from_a_client_is_not_replayed_to_it(
    nodes: Nodes, place: Place
) -> None:
    """Whoever caused it shows it already; to others it is replayed."""
    device, other = Device(place), Device(place)
    async with device.subscribed(nodes[0]) as before, other.subscribed(nodes[0]) as also:
        await place.publish(nodes[0], socket_id=before.socket_id)
        await place.publish(nodes[0])
        await place.last_of(also)
        await dropped(nodes[0], before)
        await dropped(nodes[0], also)
    async with device.subscribed(nodes[1]) as after, other.subscribed(nodes[1]) as again:
        assert await place.last_of(after) == [2]
        assert await place.last_of(again) == [1, 2]


@pytest.mark.parametrize("instance", [True, False], ids=["instance", "sub"])
async def test_client_of_a_killed_node_gets_what_it_missed(
    start_server: StartServer, place: Place, *, instance: bool
) -> None:
    """Its node could say nothing: the proofs that it wrote every few seconds speak for it."""
    here = await start_server(**SETTINGS)
    there = await start_server(**SETTINGS, REDIS_URL=here.redis_url)
    device = Device(place)
    if not instance:
        device.instance = None
    async with device.subscribed(there) as before:
        await place.publish(here)
        await place.last_of(before)
        # Two seconds between two writings of proofs, and one of margin.
        await proves(before, 6)
        there.end(signal.SIGKILL)
    await place.publish(here, 3)
    async with device.subscribed(here) as after:
        await place.publish(here)
        assert await place.last_of(after) == place.since(2)
        assert place.gaps(after) == []


async def test_client_of_a_node_that_ended_gets_what_it_missed(
    start_server: StartServer, place: Place
) -> None:
    """A close of ours is no goodbye."""
    here = await start_server(**SETTINGS)
    there = await start_server(**SETTINGS, REDIS_URL=here.redis_url)
    device = Device(place)
    async with device.subscribed(there) as before:
        await place.publish(here)
        await place.last_of(before)
        there.end()
    await place.publish(here, 2)
    async with device.subscribed(here) as after:
        assert set(await place.last_of(after)) >= {2, 3}


# --- goodbyes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code, is_goodbye", [(1000, False), (1001, True), (1005, False), (1006, False), (4999, False)]
)
async def test_only_a_page_that_is_left_says_goodbye(
    nodes: Nodes, place: Place, code: int, *, is_goodbye: bool
) -> None:
    """pusher-js ends what it means to reconnect as cleanly as what it does not."""
    device = Device(place)
    async with device.subscribed(nodes[0]) as before:
        if code == 1006:
            drop(before)
        else:
            await _close(before, code)
        await gone(nodes[0], before)
    await place.publish(nodes[0], 2)
    async with device.subscribed(nodes[0]) as after:
        await place.publish(nodes[0])
        assert await place.last_of(after) == place.since(3 if is_goodbye else 1)


async def _close(client: Client, code: int) -> None:
    if code == 1005:
        # A close frame without a code, masked with zeros.
        client.socket.transport.write(bytes([0x88, 0x80, 0, 0, 0, 0]))
        await client.socket.wait_closed()
    else:
        await client.socket.close(code)


async def test_unsubscribe_is_a_goodbye_to_the_channel(nodes: Nodes, place: Place) -> None:
    """And to no other."""
    other = Place(place.hotel, name=f"{place.hotel}.rooms-{uuid.uuid4().hex[:8]}")
    device = Device(place)
    async with device.subscribed(nodes[0]) as before:
        await before.subscribe(other.channel)
        await before.send("pusher:unsubscribe", {"channel": place.channel})
        await before.quiet()
        await dropped(nodes[0], before)
    await place.publish(nodes[0])
    await other.publish(nodes[0])
    async with device.subscribed(nodes[0]) as after:
        await after.subscribe(other.channel)
        await place.publish(nodes[0])
        assert await other.last_of(after) == [1]
        assert await place.last_of(after) == [2]


async def test_server_close_is_no_goodbye(nodes: Nodes, place: Place) -> None:
    """Whom the server closes comes back, and misses nothing."""
    device = Device(place)
    async with device.subscribed(nodes[0]) as before:
        answer = await nodes[1].api("POST", f"/apps/1/users/{device.sub}/terminate_connections")
        assert answer.status_code == 200
        assert (await before.closed())[0] == 4009
    await place.publish(nodes[0])
    async with device.subscribed(nodes[0]) as after:
        assert await place.last_of(after) == [1]


# --- identity ------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["instance", "sid", "jti", "sub"])
async def test_device_is_known_by_what_the_client_tells(
    nodes: Nodes, place: Place, by: str
) -> None:
    """The instance, else `sid`, else `jti`, else `sub`; another subject never gets its past."""
    device = Device(place, instance="x" * 12 if by == "instance" else None)
    if by in {"sid", "jti"}:
        device.claims = {by: uuid.uuid4().hex}
    async with device.subscribed(nodes[0]) as before:
        await dropped(nodes[0], before)
    await place.publish(nodes[0])
    other = Device(place, instance=device.instance, claims=device.claims)
    async with other.subscribed(nodes[0]) as stranger, device.subscribed(nodes[1]) as after:
        await place.publish(nodes[0])
        assert await place.last_of(stranger) == [2]
        assert await place.last_of(after) == [1, 2]


async def test_stronger_sign_tells_devices_apart(nodes: Nodes, place: Place) -> None:
    """A page with another instance is another device, though the person is the same."""
    device = Device(place)
    async with device.subscribed(nodes[0]) as before:
        await dropped(nodes[0], before)
    await place.publish(nodes[0])
    async with Device(place, device.sub).subscribed(nodes[0]) as other:
        await place.publish(nodes[0])
        assert await place.last_of(other) == [2]


async def answering(client: Client, until: asyncio.Task[Any]) -> None:
    """Have a client read, and so answer pings, until something is done."""
    while not until.done():
        await client.send("pusher:ping")
        await client.until("pusher:pong")
        # Not so often that the server takes it for a flood.
        await asyncio.wait((until,), timeout=0.05)
    await until


async def test_second_living_tab_gets_nothing(nodes: Nodes, place: Place) -> None:
    """A predecessor that answers a ping is no predecessor, here or on the other node."""
    device = Device(place, instance=None)
    async with device.subscribed(nodes[0]) as first:
        await place.publish(nodes[0])
        await place.last_of(first)
        for node in nodes:
            async with device.client(node) as second:
                subscribing = asyncio.create_task(second.subscribe(place.channel))
                await answering(first, subscribing)
                await place.publish(nodes[1])
                assert await place.last_of(second) == [place.published]
                await second.socket.close(1001)


async def test_lost_tab_of_two_gets_what_it_missed(nodes: Nodes, place: Place) -> None:
    """The other one lives on, and whichever of them comes back cannot be told: it is replayed."""
    device = Device(place, instance=None)
    async with device.subscribed(nodes[0]) as stays, device.subscribed(nodes[1]) as before:
        await place.publish(nodes[0])
        await place.last_of(before)
        await proves(before)
        await dropped(nodes[1], before)
        await place.publish(nodes[0], 2)
        await place.last_of(stays)
        async with device.client(nodes[1]) as after:
            subscribing = asyncio.create_task(after.subscribe(place.channel))
            await answering(stays, subscribing)
            await place.publish(nodes[0])
            assert await place.last_of(after) == [2, 3, 4]
            assert place.gaps(after) == []


async def test_loss_of_long_ago_does_not_hide_the_last_one(
    start_server: StartServer, place: Place
) -> None:
    """What was taken up once is remembered for another tab; it stands before nothing newer."""
    node = await start_server(**SETTINGS, BELLHOP_HISTORY_S="5")
    device = Device(place, instance=None, claims={"jti": uuid.uuid4().hex})
    async with device.subscribed(node) as first:
        await dropped(node, first)
    async with device.subscribed(node) as second:
        # Until the first loss is older than the window, and something newer is proven.
        await proves(second, 7)
        await dropped(node, second)
    await place.publish(node, 3)
    async with device.subscribed(node) as third:
        assert await place.last_of(third) == place.since(1)
        assert place.gaps(third) == []


async def test_renewed_token_is_the_same_device(nodes: Nodes, place: Place) -> None:
    """A fresh token has another `jti`; the client that brought it comes back with it."""
    device = Device(place, instance=None, claims={"jti": uuid.uuid4().hex})
    async with device.subscribed(nodes[0]) as before:
        device.claims = {"jti": uuid.uuid4().hex}
        await before.send("bellhop:auth", {"token": device.token})
        await before.until("bellhop:authenticated")
        await before.quiet()
        await dropped(nodes[0], before)
    await place.publish(nodes[0])
    async with device.subscribed(nodes[0]) as after:
        await place.publish(nodes[0])
        assert await place.last_of(after) == [1, 2]


# --- what may be seen ----------------------------------------------------------------------------


async def test_right_is_judged_anew(nodes: Nodes, place: Place) -> None:
    """What a lost role opened is not in the replay, though it was published before."""

    def holds(*roles: str, hotel: str = place.hotel) -> dict[str, Any]:
        return {"hotels": [{"slug": hotel, "roles": roles}]}

    device = Device(place, claims=holds("finance"))
    async with device.subscribed(nodes[0]) as before:
        await place.publish(nodes[0], payment_total="12.50")
        await place.last_of(before)
        assert before.frames[-1]["data"]["payload"]["payment_total"] == "12.50"
        await dropped(nodes[0], before)
    device.claims = holds("front_desk")
    async with device.subscribed(nodes[0]) as after:
        assert await place.last_of(after) == [1]
        assert "payment_total" not in after.frames[-1]["data"]["payload"]
        await dropped(nodes[0], after)
    device.claims = holds("finance", hotel=new_hotel())
    async with device.client(nodes[0]) as elsewhere:
        await elsewhere.refused(place.channel)
        await elsewhere.quiet()


async def test_channel_outside_the_contract_is_replayed(nodes: Nodes) -> None:
    """Public and private ones, as they are."""
    for kind in ("", "private-"):
        place = Place(name=f"{kind}lobby-{uuid.uuid4().hex[:8]}")
        device = Device(place)
        for expected in ([], [1, 2]):
            async with device.client(nodes[0]) as client:
                signed = {}
                if kind:
                    signed = nodes[0].pusher().authenticate(place.channel, client.socket_id)
                await client.subscribe(place.channel, **signed)
                if expected:
                    assert await place.last_of(client) == expected
                await dropped(nodes[0], client)
            await place.publish(nodes[0], 2)
