"""The entrance by Redis PUBLISH: its two forms, and what becomes of what cannot be accepted."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
import pytest

from tests.conftest import StartServer
from tests.harness import Client, Server, eventually, new_hotel, room_updated

CARD = "4111 1111 1111 1111"


async def rejected(server: Server, channel: str) -> dict[str, str]:
    """Await the entry of the stream `bellhop:rejected` that is of this channel."""

    async def entry() -> dict[str, str] | None:
        async with server.redis() as redis:
            entries: Any = await redis.xrevrange("bellhop:rejected", count=200)
        for _, fields in entries:
            decoded = {key.decode(): value.decode() for key, value in fields.items()}
            if decoded["channel"] == channel:
                return decoded
        return None

    found: dict[str, str] = await eventually(entry)
    return found


async def test_envelope_names_its_own_event(server: Server) -> None:
    """`PUBLISH bellhop:publish:<channel> <envelope>`: its `type` is the event's name."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    async with server.staff(rooms, hotels=[hotel]) as client:
        await server.publish(rooms, room_updated(hotel=hotel))
        frame = await client.next()
    assert (frame["event"], frame["channel"]) == ("room_updated", rooms)


@pytest.mark.parametrize("encoded", [True, False], ids=["string", "object"])
async def test_pusher_form_names_the_event(server: Server, *, encoded: bool) -> None:
    """`{"event", "data"}`, with data as Pusher's libraries send it or as an object."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    body: Any = room_updated(hotel=hotel)
    data = json.dumps(body) if encoded else body
    async with server.staff(rooms, hotels=[hotel]) as client:
        await server.publish(rooms, {"event": "room_updated", "data": data})
        frame = await client.next()
    assert frame["event"] == "room_updated"
    assert frame["data"]["payload"] == body["payload"]


async def test_pusher_form_excludes_a_socket(server: Server) -> None:
    """The screen that caused the event does not get it; its other events it gets."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    async with (
        server.staff(rooms, hotels=[hotel]) as cause,
        server.staff(rooms, hotels=[hotel]) as other,
    ):
        for number, exclude in enumerate((cause.socket_id, "1.1", None)):
            body = room_updated(str(number), hotel=hotel)
            message = {"event": "room_updated", "data": body, "socket_id": exclude}
            await server.publish(rooms, message)
        assert await room_numbers(other, 3) == ["0", "1", "2"]
        assert await room_numbers(cause, 2) == ["1", "2"]


async def room_numbers(client: Client, count: int) -> list[str]:
    """Return the rooms that the next events are about."""
    frames = [await client.next() for _ in range(count)]
    return [frame["data"]["payload"]["room_number"] for frame in frames]


async def test_app_may_be_named(server: Server) -> None:
    """`publish@{app}:` names the app, the default one included."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    async with server.staff(rooms, hotels=[hotel]) as client, server.redis() as redis:
        await redis.publish(f"bellhop:publish@1:{rooms}", json.dumps(room_updated(hotel=hotel)))
        assert (await client.next())["event"] == "room_updated"


REJECTED: dict[str, tuple[Any, str, str]] = {
    "not JSON": ("{", "400", "not valid JSON"),
    "not an object": ([1], "400", "not a JSON object"),
    "no name": ({"data": {}}, "422", "neither an envelope"),
    "name of another type": ({"event": 5, "data": {}}, "400", "event must be a string"),
    "reserved name": ({"event": "pusher:ping", "data": {"a": 1}}, "400", "reserved"),
    "endless name": ({"event": "x" * 201, "data": {"a": 1}}, "400", "1 to 200 characters"),
    "socket id": ({"event": "e", "data": {}, "socket_id": "x"}, "400", "socket_id must look"),
    "body of another type": ({"event": "room_updated", "data": "[]"}, "422", "JSON object"),
    "another hotel's": (room_updated(hotel="hotel-elsewhere"), "422", "differs from the channel's"),
    "too large": (room_updated(note="x" * 10_240), "413", "10240"),
}


@pytest.mark.parametrize("fault", REJECTED)
async def test_unacceptable_message_is_kept_with_its_reason(server: Server, fault: str) -> None:
    """Nothing is dropped in silence: stream, log and metrics have it, and no client gets it."""
    body, status, reason = REJECTED[fault]
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    if isinstance(body, dict) and body.get("meta", {}).get("hotel_slug") == "hotel-killarney":
        body = {**body, "meta": {**body["meta"], "hotel_slug": hotel}}
    message = body if isinstance(body, str) else json.dumps(body)
    async with server.staff(rooms, hotels=[hotel]) as client:
        await server.publish(rooms, message)
        entry = await rejected(server, rooms)
        await server.publish(rooms, room_updated(hotel=hotel))
        assert (await client.next())["data"]["meta"]["sequence"] == 1
    assert (entry["app"], entry["source"], entry["status"]) == ("1", "redis", status)
    assert reason in entry["reason"]
    assert entry["body"] == message
    assert entry["bytes"] == str(len(message))
    logged = [line for line in server.log_events("event.rejected") if line["channel"] == rooms]
    assert [line["reason"] for line in logged] == [entry["reason"]]


async def test_channel_outside_the_contract_is_rejected(server: Server) -> None:
    """403: by default only what the contract lists goes out."""
    channel = f"{new_hotel()}.news"
    await server.publish(channel, {"event": "e", "data": "x"})
    entry = await rejected(server, channel)
    assert (entry["status"], entry["channel"]) == ("403", channel)


async def test_unknown_app_is_rejected(server: Server) -> None:
    """404, under the app that the message named."""
    rooms = f"{new_hotel()}.rooms"
    async with server.redis() as redis:
        await redis.publish(f"bellhop:publish@77:{rooms}", "{}")
    entry = await rejected(server, rooms)
    assert (entry["app"], entry["status"], entry["reason"]) == ("77", "404", "no such app")


async def test_card_numbers_are_masked_wherever_a_rejected_message_rests(server: Server) -> None:
    """Neither the stream nor the log holds one, whatever else was wrong with the message."""
    rooms = f"{new_hotel()}.rooms"
    event = {"event": CARD, "data": {"note": f"paid with {CARD}, thanks", "n": 4111111111111111}}
    event["socket_id"] = CARD
    await server.publish(rooms, event)
    entry = await rejected(server, rooms)
    kept = json.dumps(entry)
    assert "1111 1111" not in kept
    assert "4111111111111111" not in kept
    assert "************1111, thanks" in kept
    assert CARD not in server.log


async def test_rejected_message_is_kept_in_part_when_large(server: Server) -> None:
    """At most 64 kB of it, and how long it was."""
    rooms = f"{new_hotel()}.rooms"
    message = '{"event": "' + "x" * 300_000
    await server.publish(rooms, message)
    entry = await rejected(server, rooms)
    assert len(entry["body"]) == 64 * 1024
    assert message.startswith(entry["body"])
    assert entry["bytes"] == str(len(message))


async def test_rejected_message_is_text_whatever_it_was(server: Server) -> None:
    """Bytes that are no UTF-8 are kept as far as text can."""
    rooms = f"{new_hotel()}.rooms"
    await server.publish(rooms, b"\xff\xfe{}")
    entry = await rejected(server, rooms)
    assert entry["body"].endswith("{}")


async def test_rejected_messages_are_counted(server: Server) -> None:
    """`bellhop_rejected_total` by status."""

    async def count() -> float:
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"{server.url}/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith("bellhop_rejected_total{")]
        return sum(float(line.split()[-1]) for line in lines if 'status="400"' in line)

    before = await count()
    rooms = f"{new_hotel()}.rooms"
    await server.publish(rooms, "{")
    await rejected(server, rooms)
    assert await count() == before + 1


async def test_what_redis_does_not_take_at_once_goes_out_when_it_does(
    start_server: StartServer,
) -> None:
    """Whoever PUBLISHes has its answer already: nothing is refused that can go out, in order."""
    node, hotel = await start_server(), new_hotel()
    rooms, numbers = f"{hotel}.rooms", [str(number) for number in range(60)]
    async with node.staff(rooms, hotels=[hotel]) as client, node.redis() as redis:
        for number in numbers:
            body = room_updated(number, hotel=hotel)
            body["meta"]["event_id"] = str(uuid.uuid4())
            if number in {"0", "20", "40"}:
                # The node still hears, but cannot ask.
                await redis.client_kill_filter(_type="normal", skipme=True)
            assert await redis.publish(f"bellhop:publish:{rooms}", json.dumps(body))
        assert await room_numbers(client, len(numbers)) == numbers
        await client.quiet()
        assert await redis.xlen("bellhop:rejected") == 0
