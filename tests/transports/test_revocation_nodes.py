"""Guests who leave, and nodes that were cut off: rights that end without being there."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection

from tests.conftest import StartServer
from tests.harness import (
    Client,
    Server,
    eventually,
    guest_token,
    new_hotel,
    room_updated,
    token,
)
from tests.transports.cut import Wire, wire_to
from tests.transports.revoking import (
    ERROR,
    REVOKED,
    ended,
    recorded,
    revoke,
    somebody,
)

# --- guests ---------------------------------------------------------------------------------------


def checked_out(hotel: str, booking: str, category: str) -> dict[str, Any]:
    """Return a `booking_checked_out` envelope."""
    scope = {"booking_id": booking, "room_number": "101"}
    return {
        "category": category,
        "type": "booking_checked_out",
        "payload": {"booking_id": booking, "room_number": "101", "status": "CHECKED_OUT"},
        "meta": {"hotel_slug": hotel, "ts": "2025-12-20T10:30:00Z", "scope": scope},
    }


@contextlib.asynccontextmanager
async def two_guests(
    node: Server, hotel: str, booking: str
) -> AsyncIterator[tuple[Client, Client]]:
    """Open guests of two hotels that share a booking id."""
    channel = f"private-guest-booking.{booking}"
    async with (
        node.client(f"/t/{guest_token(booking, hotel=hotel)}") as guest,
        node.client(f"/t/{guest_token(booking, hotel=new_hotel())}") as namesake,
    ):
        for client in (guest, namesake):
            await client.subscribe(channel)
        yield guest, namesake


async def test_guest_who_hears_of_the_check_out_hears_no_more(pair: tuple[Server, Server]) -> None:
    """The event itself still comes; then 4009, and no way back but with a later token."""
    hotel, booking = new_hotel(), f"BK-{uuid.uuid4().hex[:8]}"
    channel = f"private-guest-booking.{booking}"
    async with two_guests(pair[1], hotel, booking) as (guest, namesake):
        await pair[0].publish(channel, checked_out(hotel, booking, "guest_booking"))
        assert (await guest.next())["event"] == "booking_checked_out"
        await ended(guest)
        await namesake.quiet()
    async with pair[0].connect(f"/t/{guest_token(booking, hotel=hotel)}") as socket:
        await ended(Client(socket))
    later = guest_token(booking, hotel=hotel, iat=time.time())
    async with pair[0].client(f"/t/{later}") as client:
        await client.subscribe(channel)


async def test_guest_keeps_the_channel_for_a_while_when_only_staff_hear_of_the_check_out(
    pair: tuple[Server, Server],
) -> None:
    """Half a minute, as Redis has it; the guest of the same booking id elsewhere keeps it all."""
    hotel, booking = new_hotel(), f"BK-{uuid.uuid4().hex[:8]}"
    async with two_guests(pair[1], hotel, booking) as (guest, namesake):
        before = time.time()
        event = checked_out(hotel, booking, "room_booking")
        await pair[0].publish(f"{hotel}.room-bookings", event)
        entry = await eventually(lambda: recorded(pair[0], f"booking:{hotel}/{booking}"))
        assert before + 30 <= entry["at"] <= time.time() + 30
        for client in (guest, namesake):
            await client.quiet()
    async with pair[0].redis() as redis:
        entries: Any = await redis.hgetall("bellhop:revocations")
    of_booking = [name for name in entries if booking.encode() in name]
    assert of_booking == [f"booking:{hotel}/{booking}".encode()]


def written(pair: tuple[Server, Server]) -> list[dict[str, Any]]:
    """Return what either node has logged of stays that it ended."""
    lines = [line for node in pair for line in node.log_events("revocation.written")]
    return [line for line in lines if line["what"] == "booking"]


async def test_guest_who_has_left_stays_out_when_staff_hear_of_it_again(
    pair: tuple[Server, Server],
) -> None:
    """A check-out that is told again, or corrected, gives no half minute back."""
    hotel, booking = new_hotel(), f"BK-{uuid.uuid4().hex[:8]}"
    at = time.time() - 100
    entry: dict[str, Any] = {"id": "1", "what": "booking", "value": f"{hotel}/{booking}"}
    entry |= {"at": at, "until": at + 3600}
    name = f"booking:{hotel}/{booking}"
    async with pair[0].redis() as redis:
        await redis.hset("bellhop:revocations", name, json.dumps(entry))
        await redis.publish("bellhop:control", json.dumps({"revoke": entry}))
    before = len(written(pair))
    event = checked_out(hotel, booking, "room_booking")
    await pair[0].publish(f"{hotel}.room-bookings", event)
    await eventually(lambda: len(written(pair)) > before)
    jwt = guest_token(booking, hotel=hotel, iat=at - 100)
    async with pair[0].connect(f"/t/{jwt}") as socket:
        assert (await Client(socket).next())["data"] == REVOKED


# --- a node that is cut off -----------------------------------------------------------------------


async def got_until(client: Client, event: str, channel: str) -> list[str]:
    """Return what a client got before a frame on a channel."""
    names = []
    while (frame := await client.next())["event"] != event or frame.get("channel") != channel:
        names.append(f"{frame['event']} {frame.get('channel')}")
    return names


@pytest.mark.parametrize("how", ["cut", "held up"])
async def test_node_that_was_cut_off_knows_what_is_revoked_before_it_delivers(
    start_server: StartServer, how: str
) -> None:
    """What was published behind its back goes to those alone whose right still stands."""
    one = await start_server()
    async with wire_to(one.port + 1) as wire:
        two = await start_server(REDIS_URL=f"redis://127.0.0.1:{wire.port}/0")
        lost, kept, sub = new_hotel(), new_hotel(), somebody()
        channels = [f"{lost}.rooms", f"{kept}.rooms"]
        async with (
            two.staff(*channels, hotels=[lost, kept]) as client,
            two.staff(*channels, sub=sub, hotels=[lost, kept]) as dismissed,
        ):
            jwt = token(sub, hotels=[lost, kept])
            cut(wire, how)
            await revoke(one, hotel=lost)
            await revoke(one, sub=sub)
            for number in range(10):
                for hotel in (lost, kept):
                    await one.publish(f"{hotel}.rooms", room_updated(str(number), hotel=hotel))
            # It cannot know yet, and opens: nothing is to be heard there.
            late = await late_comer(two, jwt, channels[1])
            mend(wire, how)
            code, told = await dismissed.closed()
            assert code == 4009
            assert "room_updated" not in {frame["event"] for frame in told}
            before = await got_until(client, ERROR, channels[0])
            assert f"room_updated {channels[0]}" not in before
            await eventually(lambda: ready(two))
            await one.publish(channels[0], room_updated("late", hotel=lost))
            await one.publish(channels[1], room_updated("late", hotel=kept))
            rooms: list[str] = []
            while rooms[-1:] != ["late"]:
                frame = await client.until("room_updated")
                assert frame["channel"] == channels[1]
                rooms.append(frame["data"]["payload"]["room_number"])
            code, told = await late.closed()
            assert code == 4009
            assert [frame["event"] for frame in told] == ["pusher:error"]


def cut(wire: Wire, how: str) -> None:
    """Keep a node from hearing of anything."""
    wire.cut() if how == "cut" else wire.hold_up()


def mend(wire: Wire, how: str) -> None:
    """Let it hear again."""
    wire.mend() if how == "cut" else wire.let_go()


async def late_comer(node: Server, jwt: str, channel: str) -> Client:
    """Open a client with a token whose revocation the node has not heard of."""
    socket: ClientConnection = await node.connect(f"/t/{jwt}")
    client = Client(socket)
    await client.greeted()
    await client.send("pusher:subscribe", {"channel": channel})
    return client


async def ready(server: Server) -> bool:
    """Return whether a node says that clients may come."""
    async with httpx.AsyncClient() as client:
        return (await client.get(f"{server.url}/health/ready")).status_code == 200


async def test_node_that_starts_knows_what_is_revoked(start_server: StartServer) -> None:
    """It reads them before it is ready."""
    one = await start_server()
    sub = somebody()
    jwt = token(sub)
    await revoke(one, sub=sub)
    two = await start_server(REDIS_URL=one.redis_url)
    async with two.connect(f"/t/{jwt}") as socket:
        await ended(Client(socket))
