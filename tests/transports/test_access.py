"""Who may hear what, through a real socket: staff, guests, signatures, hotels kept apart."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

from tests.harness import Client, Server, guest_token, new_hotel, room_updated, token

UNLISTED = {"passport": "X1", "primary_email": "a@b.example", "note": "internal"}


def booking_id() -> str:
    """Return the id of a booking that no other test speaks of."""
    return f"BK-{uuid.uuid4().hex[:10]}"


def guest_event(
    name: str, booking: str, hotel: str, category: str = "guest_booking"
) -> dict[str, Any]:
    """Return an event of a guest family, with fields that must not leave."""
    payload = {"booking_id": booking, "status": "CONFIRMED", "confirmed_at": "2025-12-20T10:30:00Z"}
    if category == "chat":
        payload = {"message_id": "m-1", "body": "hello", "created_at": "2025-12-20T10:30:00Z"}
    scope = {"booking_id": booking, "primary_email": "a@b.example"}
    meta = {"hotel_slug": hotel, "ts": "2025-12-20T10:30:00Z", "scope": scope}
    return {
        "category": category,
        "type": name,
        "payload": {**payload, **UNLISTED},
        "meta": meta,
    }


async def channel_auth(server: Server, client: Client, channel: str, jwt: str) -> dict[str, Any]:
    """Ask `/pusher/auth` as pusher-js does."""
    async with httpx.AsyncClient() as http:
        answer = await http.post(
            f"{server.url}/pusher/auth",
            data={"socket_id": client.socket_id, "channel_name": channel},
            headers={"Authorization": f"Bearer {jwt}"},
        )
    assert answer.status_code == 200, answer.text
    signed: dict[str, Any] = answer.json()
    return signed


async def test_staff_of_another_hotel_hears_nothing(server: Server) -> None:
    """Every family of a hotel is refused to everybody whose token does not name it."""
    hotel, other = new_hotel(), new_hotel()
    jwt = token(hotels=[{"slug": other, "id": 2}], roles=["admin"], staff_id="s-2")
    async with server.client(f"/t/{jwt}") as client:
        for channel in (
            f"{hotel}.rooms",
            f"{hotel}.room-bookings",
            f"{hotel}.booking",
            f"private-{hotel}.rooms",
            f"presence-{hotel}.housekeeping",
            "staff-hotel-1",
            "staff-chat-s-1",
            "staff-chat-conversation-c-1",
        ):
            refused = await client.refused(channel)
            assert (refused["type"], refused["status"]) == ("AuthError", 403)
        await client.subscribe(f"{other}.rooms")
        await client.subscribe("staff-hotel-2")
        await client.subscribe("staff-chat-s-2")


async def test_hotel_whose_name_begins_alike_is_another(server: Server) -> None:
    """A slug is compared whole: no prefix, no case, no dash opens another hotel."""
    hotel = new_hotel()
    async with server.client(f"/t/{token(hotels=[hotel])}") as client:
        for other in (f"{hotel}-annex", hotel[:-1], hotel.upper(), f"x{hotel}"):
            await client.refused(f"{other}.rooms")


@pytest.mark.parametrize("name", ["private-guest-booking.{}", "guest-booking-{}"])
async def test_guest_hears_the_own_booking_alone(server: Server, name: str) -> None:
    """The older name is guarded like the newer, though Pusher would call it public."""
    hotel, own, other = new_hotel(), booking_id(), booking_id()
    async with server.client(f"/t/{guest_token(own, hotel=hotel)}") as client:
        await client.refused(name.format(other))
        await client.refused(name.format(own[:-1]))
        await client.subscribe(name.format(own))
        await server.publish(name.format(own), guest_event("booking_confirmed", own, hotel))
        frame = await client.until("booking_confirmed")
    assert frame["data"]["payload"] == {
        "booking_id": own,
        "status": "CONFIRMED",
        "confirmed_at": "2025-12-20T10:30:00Z",
    }
    assert frame["data"]["meta"]["scope"] == {"booking_id": own}


async def test_guest_hears_no_staff_channel(server: Server) -> None:
    """Not even those of the booking's own hotel."""
    hotel, own = new_hotel(), booking_id()
    async with server.client(f"/t/{guest_token(own, 'STATUS_READ', 'CHAT', hotel=hotel)}") as guest:
        for channel in (
            f"{hotel}.rooms",
            f"private-{hotel}.rooms",
            f"{hotel}.room-bookings",
            f"presence-{hotel}.front-desk",
            "staff-hotel-1",
            f"staff-chat-guest-{own}",
            "staff-chat-conversation-1",
        ):
            assert (await guest.refused(channel))["status"] == 403


@pytest.mark.parametrize(
    "scopes, heard",
    [
        (["STATUS_READ"], ["booking_confirmed"]),
        (["CHAT"], ["chat_message_created"]),
        (["STATUS_READ", "CHAT"], ["booking_confirmed", "chat_message_created"]),
    ],
)
async def test_guest_hears_what_the_scope_says(
    server: Server, scopes: list[str], heard: list[str]
) -> None:
    """STATUS_READ opens the booking's events and CHAT the chat's."""
    hotel, own = new_hotel(), booking_id()
    channel = f"private-guest-booking.{own}"
    async with server.client(f"/t/{guest_token(own, *scopes, hotel=hotel)}") as client:
        await client.subscribe(channel)
        async with server.staff(channel, hotels=[hotel]) as staff:
            await server.publish(channel, guest_event("booking_confirmed", own, hotel))
            await server.publish(channel, guest_event("chat_message_created", own, hotel, "chat"))
            await staff.until("chat_message_created")
        assert [(await client.next())["event"] for _ in heard] == heard
        await client.quiet()


async def test_guest_without_a_scope_hears_nothing(server: Server) -> None:
    """A token of ROOM_SERVICE alone reads no events."""
    own = booking_id()
    async with server.client(f"/t/{guest_token(own, 'ROOM_SERVICE')}") as client:
        assert (await client.refused(f"private-guest-booking.{own}"))["status"] == 403


@pytest.mark.parametrize("name", ["private-guest-booking.{}", "guest-booking-{}"])
async def test_two_hotels_sharing_a_booking_id_are_kept_apart(server: Server, name: str) -> None:
    """The channel is one, the events are not: each reaches the staff and the guest of its hotel."""
    ours, theirs, booking = new_hotel(), new_hotel(), booking_id()
    channel = name.format(booking)
    async with (
        server.client(f"/t/{guest_token(booking, hotel=ours)}") as our_guest,
        server.client(f"/t/{guest_token(booking, hotel=theirs)}") as their_guest,
        server.staff(channel, hotels=[ours]) as our_staff,
        server.staff(channel, hotels=[theirs]) as their_staff,
        server.staff(channel, kind="service", hotels="*") as operator,
    ):
        await our_guest.subscribe(channel)
        await their_guest.subscribe(channel)
        for hotel in (ours, theirs, ours):
            await server.publish(channel, guest_event("booking_confirmed", booking, hotel))
        heard = [(await operator.until("booking_confirmed"))["data"]["meta"] for _ in range(3)]
        assert [meta["hotel_slug"] for meta in heard] == [ours, theirs, ours]
        for client, hotel, count in (
            (our_guest, ours, 2),
            (our_staff, ours, 2),
            (their_guest, theirs, 1),
            (their_staff, theirs, 1),
        ):
            for _ in range(count):
                frame = await client.next()
                assert frame["data"]["meta"]["hotel_slug"] == hotel
            await client.quiet()


async def test_two_hotels_sharing_an_id_are_kept_apart(server: Server) -> None:
    """`staff-hotel-{id}` is guarded per event too: the body's slug must be in the token."""
    ours, theirs, hotel_id = new_hotel(), new_hotel(), uuid.uuid4().hex
    channel = f"staff-hotel-{hotel_id}"
    async with (
        server.staff(channel, hotels=[{"slug": ours, "id": hotel_id}]) as client,
        server.staff(channel, hotels=[{"slug": theirs, "id": hotel_id}]) as other,
    ):
        await server.publish(channel, room_updated(hotel=theirs))
        await other.until("room_updated")
        await client.quiet()
        await server.publish(channel, room_updated(hotel=ours))
        assert (await client.next())["data"]["meta"]["hotel_slug"] == ours
        await other.quiet()


async def test_payment_fields_reach_the_roles_of_that_hotel(server: Server) -> None:
    """A manager elsewhere is no manager here; the event itself is the same for all."""
    hotel, elsewhere = new_hotel(), new_hotel()
    rooms = f"{hotel}.rooms"
    manager_here = [{"slug": hotel, "roles": ["manager"]}, elsewhere]
    manager_elsewhere = [hotel, {"slug": elsewhere, "roles": ["manager"]}]
    event = room_updated(hotel=hotel, payment={"total": 90}, list=[{"deposit_due": 1, "x": 2}])
    async with (
        server.staff(rooms, hotels=manager_here) as manager,
        server.staff(rooms, hotels=manager_elsewhere) as clerk,
    ):
        await server.publish(rooms, event)
        full = (await manager.until("room_updated"))["data"]
        less = (await clerk.until("room_updated"))["data"]
    assert full["payload"] == event["payload"]
    assert full["meta"] == less["meta"]
    assert "payment" not in less["payload"]
    assert less["payload"]["list"] == [{"x": 2}]
    assert less["payload"]["room_number"] == "101"


async def test_private_channel_is_admitted_by_the_endpoints_signature(server: Server) -> None:
    """`/pusher/auth` signs the claims: the view is that of the token's roles."""
    hotel = new_hotel()
    channel = f"private-{hotel}.rooms"
    async with server.client() as client:
        jwt = token("boss", hotels=[hotel], roles=["manager"])
        await client.subscribe(channel, **await channel_auth(server, client, channel, jwt))
        await server.publish(channel, room_updated(hotel=hotel, payment={"total": 90}))
        assert (await client.until("room_updated"))["data"]["payload"]["payment"] == {"total": 90}


async def test_private_channel_is_admitted_by_the_backends_signature(server: Server) -> None:
    """Without claims it is the least view, of that one channel."""
    hotel = new_hotel()
    channel = f"private-{hotel}.rooms"
    async with server.client() as client:
        await client.subscribe(channel, **server.pusher().authenticate(channel, client.socket_id))
        await server.publish(channel, room_updated(hotel=hotel, payment={"total": 90}))
        assert "payment" not in (await client.until("room_updated"))["data"]["payload"]


async def test_private_channel_needs_no_signature_when_the_token_opens_it(server: Server) -> None:
    """A client that has authenticated may subscribe without asking for a signature."""
    hotel = new_hotel()
    async with server.staff(f"private-{hotel}.rooms", hotels=[hotel]):
        pass


async def test_private_twin_is_a_channel_of_its_own(server: Server) -> None:
    """An event on `private-x.rooms` is not one on `x.rooms`."""
    hotel = new_hotel()
    async with server.staff(f"{hotel}.rooms", f"private-{hotel}.rooms", hotels=[hotel]) as client:
        await server.publish(f"private-{hotel}.rooms", room_updated(hotel=hotel))
        assert (await client.next())["channel"] == f"private-{hotel}.rooms"
        await client.quiet()


@pytest.mark.parametrize("fault", ["secret", "socket", "channel", "key", "data", "form", "none"])
async def test_signature_is_refused_when_bad(server: Server, fault: str) -> None:
    """401 on the channel, and the connection goes on: a signature is for one socket and channel."""
    channel, other = f"private-{new_hotel()}.rooms", f"private-{new_hotel()}.rooms"
    async with server.client(f"/t/{token(hotels=[new_hotel()])}") as client:
        backend = server.pusher(**({"secret": "wrong"} if fault == "secret" else {}))
        socket_id = "1.2" if fault == "socket" else client.socket_id
        signed = backend.authenticate(other if fault == "channel" else channel, socket_id)
        match fault:
            case "key":
                signed["auth"] = "other" + signed["auth"]
            case "data":
                signed["channel_data"] = '{"user_id":"admin"}'
            case "form":
                signed["auth"] = "no-colon"
            case "none":
                signed["auth"] = ""
            case _:
                pass
        refused = await client.refused(channel, **signed)
        # Without a signature the token decides, and it does not name the hotel.
        assert refused["status"] == (403 if fault == "none" else 401)
        await client.quiet()


async def test_presence_channel_is_admitted_by_either_signature(server: Server) -> None:
    """The roster holds the subscriber: from the token, or from the backend's channel_data."""
    hotel = new_hotel()
    channel = f"presence-{hotel}.housekeeping"
    async with server.client() as client:
        jwt = token("staff-5", hotels=[hotel], name="Ann")
        frame = await client.subscribe(channel, **await channel_auth(server, client, channel, jwt))
        assert frame["data"]["presence"]["hash"]["staff-5"] == {"name": "Ann"}
    async with server.client() as client:
        member = {"user_id": "staff-6", "user_info": {"shift": "night"}}
        signed = server.pusher().authenticate(channel, client.socket_id, member)
        frame = await client.subscribe(channel, **signed)
    presence = frame["data"]["presence"]
    assert "staff-6" in presence["ids"]
    assert presence["hash"]["staff-6"] == {"shift": "night"}
    assert presence["count"] == len(presence["ids"])


async def test_presence_channel_takes_the_member_from_the_signed_in_user(server: Server) -> None:
    """Without channel_data pusher-js has signed in: the id is the user's."""
    hotel = new_hotel()
    channel = f"presence-{hotel}.front-desk"
    async with server.client() as client:
        await client.signin(token("staff-8", hotels=[hotel]), sub="staff-8")
        frame = await client.subscribe(channel)
    assert frame["data"]["presence"]["ids"] == ["staff-8"]


async def test_roster_carries_no_events(server: Server) -> None:
    """Who is on shift is all that a presence channel of the contract says."""
    hotel = new_hotel()
    roster, rooms = f"presence-{hotel}.housekeeping", f"{hotel}.rooms"
    async with server.staff(roster, rooms, hotels=[hotel]) as client:
        for channel in (roster, rooms):
            await server.publish(channel, room_updated(hotel=hotel))
        assert (await client.next())["channel"] == rooms


async def test_chat_is_for_its_members(server: Server) -> None:
    """A conversation opens by the claim `conversations`, the counters by `staff_id`."""
    hotel = new_hotel()
    async with server.client(
        f"/t/{token('s-1', hotels=[hotel], staff_id='77', conversations=['c-1', 5])}"
    ) as client:
        for channel in ("staff-chat-77", "staff-chat-conversation-c-1"):
            await client.subscribe(channel)
        await client.subscribe("staff-chat-conversation-5")
        for channel in ("staff-chat-s-1", "staff-chat-7", "staff-chat-conversation-c-2"):
            await client.refused(channel)


@pytest.mark.parametrize("hotels", ["*", None], ids=["all", "one"])
async def test_service_hears_its_hotels(server: Server, hotels: str | None) -> None:
    """An operator or a machine hears every channel of its hotels, and of no other."""
    hotel, other = new_hotel(), new_hotel()
    given = hotels or [{"slug": hotel, "id": 3}]
    async with server.client(f"/t/{token('ops', kind='service', hotels=given)}") as client:
        for channel in (f"{hotel}.rooms", "staff-hotel-3", f"guest-booking-{booking_id()}"):
            await client.subscribe(channel)
        if hotels is None:
            await client.refused(f"{other}.rooms")
            await client.refused("staff-hotel-4")
        else:
            await client.subscribe(f"{other}.rooms")
