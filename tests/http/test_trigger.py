"""`POST /apps/{id}/events`: what is stored with a number, and what is refused with a reason."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import pusher.errors
import pytest

from tests.harness import Server, new_hotel, room_updated

EVENTS = "/apps/1/events"


def body_for(hotel: str, **changes: Any) -> dict[str, Any]:
    """Return the body of a trigger as the libraries send it: data is a string."""
    data = json.dumps(room_updated(hotel=hotel))
    return {"name": "room_updated", "channels": [f"{hotel}.rooms"], "data": data, **changes}


async def test_released_library_triggers(server: Server) -> None:
    """No change but the host: the answer is Pusher's `{}`, and the event arrives."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    async with server.staff(rooms, hotels=[hotel]) as client:
        backend = server.pusher()
        event = room_updated(hotel=hotel)
        assert await asyncio.to_thread(backend.trigger, rooms, "room_updated", event) == {}
        assert await asyncio.to_thread(backend.trigger, [rooms], "room_updated", event) == {}
        frames = [await client.until("room_updated") for _ in range(2)]
    assert [frame["data"]["meta"]["sequence"] for frame in frames] == [1, 2]


async def test_answer_has_the_receipt_in_its_headers(server: Server) -> None:
    """200 means stored with a number: `Bellhop-Event-Id` and `Bellhop-Sequence` name it."""
    hotel, event_id = new_hotel(), str(uuid.uuid4())
    event = room_updated(hotel=hotel)
    event["meta"]["event_id"] = event_id
    for _ in range(2):
        answer = await server.api("POST", EVENTS, body_for(hotel, data=json.dumps(event)))
        assert answer.status_code == 200
        assert answer.content == b"{}"
        assert answer.headers["Content-Type"] == "application/json"
        # The second time it is the same event, with the number that it has.
        assert answer.headers["Bellhop-Event-Id"] == event_id
        assert answer.headers["Bellhop-Sequence"] == "1"
    answer = await server.api("POST", EVENTS, body_for(hotel))
    assert uuid.UUID(answer.headers["Bellhop-Event-Id"]).version == 4
    assert answer.headers["Bellhop-Sequence"] == "2"


@pytest.mark.parametrize("encoded", [True, False], ids=["string", "object"])
async def test_data_may_be_a_string_or_an_object(server: Server, *, encoded: bool) -> None:
    """Libraries send a string; a hand-written request may send the envelope itself."""
    hotel = new_hotel()
    event = room_updated(hotel=hotel)
    async with server.staff(f"{hotel}.rooms", hotels=[hotel]) as client:
        data = json.dumps(event) if encoded else event
        answer = await server.api("POST", EVENTS, body_for(hotel, data=data))
        assert answer.status_code == 200
        assert (await client.next())["data"]["payload"] == event["payload"]


async def test_channel_may_stand_alone(server: Server) -> None:
    """PHP's library sends `channel` where there is one."""
    hotel = new_hotel()
    body = body_for(hotel, channel=f"{hotel}.rooms")
    del body["channels"]
    assert (await server.api("POST", EVENTS, body)).status_code == 200


async def test_several_channels_get_one_event(server: Server) -> None:
    """Each channel numbers it for itself; a channel named twice gets it once."""
    hotel = new_hotel()
    channels = [f"{hotel}.rooms", f"private-{hotel}.rooms"]
    await server.api("POST", EVENTS, body_for(hotel))
    answer = await server.api("POST", EVENTS, body_for(hotel, channels=[*channels, channels[0]]))
    assert answer.status_code == 200
    assert answer.headers["Bellhop-Sequence"] == "2,1"
    answer = await server.api("POST", EVENTS, body_for(hotel, channels=channels * 500))
    assert (answer.status_code, answer.headers["Bellhop-Sequence"]) == (200, "3,2")


async def test_several_channels_are_checked_before_any_gets_it(server: Server) -> None:
    """All or nothing: one bad channel, wherever it stands, and none is published."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    for bad in ("news", f"{new_hotel()}.rooms", "not a name"):
        for channels in ([rooms, bad], [bad, rooms]):
            answer = await server.api("POST", EVENTS, body_for(hotel, channels=channels))
            assert answer.status_code in {400, 403, 422}
    answer = await server.api("POST", EVENTS, body_for(hotel))
    assert answer.headers["Bellhop-Sequence"] == "1"


async def test_socket_is_excluded(server: Server) -> None:
    """The one that caused the event does not get it; a departed or unknown one is no error."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    async with (
        server.staff(rooms, hotels=[hotel]) as cause,
        server.staff(rooms, hotels=[hotel]) as other,
    ):
        trigger = server.pusher().trigger
        event = room_updated(hotel=hotel)
        for exclude in (cause.socket_id, "123.456", None):
            await asyncio.to_thread(trigger, rooms, "room_updated", event, exclude)
        for client, numbers in ((other, [1, 2, 3]), (cause, [2, 3])):
            seen = [(await client.next())["data"]["meta"]["sequence"] for _ in numbers]
            assert seen == numbers
            await client.quiet()


async def test_event_for_a_user_reaches_the_users_sockets(server: Server) -> None:
    """`send_to_user` of the library: the channel of whoever is signed in, and of nobody else."""
    user, other = f"user-{uuid.uuid4().hex}", f"user-{uuid.uuid4().hex}"
    async with server.client() as client, server.client() as stranger:
        for connection, sub in ((client, user), (stranger, other)):
            signed = server.pusher().authenticate_user(connection.socket_id, {"id": sub})
            await connection.send("pusher:signin", signed)
            await connection.until("pusher:signin_success")
            await connection.subscribe(f"#server-to-user-{sub}")
        await asyncio.to_thread(server.pusher().send_to_user, user, "note", {"a": 1})
        frame = await client.next()
        assert (frame["event"], frame["data"]) == ("note", {"a": 1})
        await stranger.quiet()


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "no name": ({"name": None}, 400, "name"),
    "name of another type": ({"name": 5}, 400, "name"),
    "empty name": ({"name": ""}, 400, "name"),
    "endless name": ({"name": "x" * 201}, 400, "200"),
    "reserved name": ({"name": "pusher:pong"}, 400, "reserved"),
    "reserved internal name": ({"name": "pusher_internal:x"}, 400, "or pusher_internal: are"),
    "no data": ({"data": None}, 400, "data"),
    "no channels": ({"channels": None}, 400, "channels"),
    "empty channels": ({"channels": []}, 400, "1 to 100"),
    "channels of another type": ({"channels": [1]}, 400, "channels"),
    "channels as an object": ({"channels": {}}, 400, "channels"),
    "too many channels": ({"channels": [f"a{n}" for n in range(101)]}, 400, "1 to 100"),
    "endless channels": ({"channels": ["a"] * 1_001}, 400, "1,000"),
    "channel's name": ({"channels": ["a b", "a"]}, 400, "'a b' is not a channel name"),
    "channel's endless name": ({"channels": ["é" * 900]}, 400, f"'{'é' * 60}…' is not a channel"),
    "channel's length": ({"channels": ["a" * 201]}, 400, "200"),
    "reserved channel": ({"channels": ["#private"]}, 400, "not a channel name"),
    "socket id": ({"socket_id": "1.2.3"}, 400, "socket_id"),
    "socket id of another type": ({"socket_id": 5}, 400, "socket_id"),
    "unlisted channel": ({"channels": ["news"]}, 403, "not in the contract"),
    "data that is no JSON": ({"data": "plain"}, 422, "JSON object"),
    "data that is a list": ({"data": "[]"}, 422, "JSON object"),
    "another hotel's": ({"data": room_updated()}, 422, "differs from the channel's hotel"),
    "roster": ({"channels": ["presence-hotel.area"]}, 422, "roster"),
    "unlisted guest event": (
        {"channels": ["guest-booking-1"], "name": "booking_created", "data": {"payload": {}}},
        422,
        "not an event of",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
async def test_trigger_is_refused_with_its_reason(server: Server, fault: str) -> None:
    """400 malformed, 403 not allowed here, 422 against the contract; the body says why."""
    changes, status, reason = REFUSED[fault]
    answer = await server.api("POST", EVENTS, body_for(new_hotel(), **changes))
    assert answer.status_code == status, answer.text
    assert reason in answer.json()["error"]
    assert "Bellhop-Sequence" not in answer.headers


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"\xff", b"null", b"[" * 100_000])
async def test_body_is_refused_when_no_object(server: Server, body: bytes) -> None:
    """400, however deep or foreign it is."""
    answer = await server.api("POST", EVENTS, body)
    assert answer.status_code == 400
    assert "JSON" in answer.json()["error"]


async def test_contract_faults_are_told_by_their_place(server: Server) -> None:
    """422 has a JSON pointer for each fault."""
    hotel = new_hotel()
    event = room_updated(hotel=hotel)
    event["meta"]["event_id"] = ""
    answer = await server.api("POST", EVENTS, body_for(hotel, data=json.dumps(event)))
    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.json()["faults"]] == ["/meta/event_id"]


async def test_size_is_limited_and_the_limit_named(server: Server) -> None:
    """413 beyond 10 kB of data, as on Pusher; a body far beyond is not even read to its end."""
    hotel = new_hotel()
    for size in (10_241, 2_000_000):
        event = room_updated(hotel=hotel, note="x" * size)
        answer = await server.api("POST", EVENTS, body_for(hotel, data=json.dumps(event)))
        assert answer.status_code == 413
        assert "exceeds" in answer.json()["error"]
    event = room_updated(hotel=hotel, note="x" * 9_500)
    answer = await server.api("POST", EVENTS, body_for(hotel, data=json.dumps(event)))
    assert answer.status_code == 200


async def test_app_is_refused_when_unknown(server: Server) -> None:
    """404, before any signature is looked at."""
    with pytest.raises(pusher.errors.PusherBadStatus, match="no such app"):
        await asyncio.to_thread(server.pusher(app_id="77").trigger, "a", "e", {})
    assert (await server.api("POST", "/apps/77/events", {})).status_code == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_method_is_refused_when_another(server: Server, method: str) -> None:
    """405: an event is posted."""
    assert (await server.api(method, EVENTS)).status_code == 405


async def test_path_is_refused_when_unknown(server: Server) -> None:
    """404 for what no endpoint answers."""
    assert (await server.api("POST", "/apps/1/nothing", {})).status_code == 404
