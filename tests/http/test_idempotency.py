"""`Idempotency-Key`: what is sent again is not delivered again."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
import pytest

from tests.conftest import StartServer
from tests.harness import Server, new_hotel, room_updated

EVENTS = "/apps/1/events"
BATCH = "/apps/1/batch_events"


def event(hotel: str, **meta: str) -> dict[str, Any]:
    """Return a room's change as a backend posts it."""
    envelope = room_updated(hotel=hotel)
    envelope["meta"] |= meta
    return {"name": "room_updated", "channel": f"{hotel}.rooms", "data": json.dumps(envelope)}


async def post(
    server: Server, path: str, body: Any, key: str, name: str = "Idempotency-Key"
) -> Any:
    """Post with a key; return the status and the receipt."""
    answer = await server.api("POST", path, body, headers={name: key})
    return (
        answer.status_code,
        answer.headers.get("Bellhop-Event-Id"),
        answer.headers.get("Bellhop-Sequence"),
    )


@pytest.mark.parametrize("name", ["Idempotency-Key", "X-Idempotency-Key"])
async def test_request_with_the_same_key_is_delivered_once(server: Server, name: str) -> None:
    """The second answer has the first one's id and number; another key is another event."""
    hotel = new_hotel()
    async with server.staff(f"{hotel}.rooms", hotels=[hotel]) as client:
        for _ in range(2):
            assert await post(server, EVENTS, event(hotel), "order:7|~", name) == (
                200,
                "order:7|~",
                "1",
            )
        assert await post(server, EVENTS, event(hotel), "k", name) == (200, "k", "2")
        frames = [await client.until("room_updated") for _ in range(2)]
        await client.quiet()
    metas = [frame["data"]["meta"] for frame in frames]
    assert [(meta["event_id"], meta["sequence"]) for meta in metas] == [
        ("order:7|~", 1),
        ("k", 2),
    ]


async def test_own_event_id_wins_over_the_key(server: Server) -> None:
    """An envelope that names itself is known by that, whatever the header says."""
    hotel, own = new_hotel(), str(uuid.uuid4())
    body = event(hotel, event_id=own)
    assert await post(server, EVENTS, body, "a") == (200, own, "1")
    assert await post(server, EVENTS, body, "b") == (200, own, "1")


async def test_events_of_a_batch_have_keys_of_their_own(server: Server) -> None:
    """Each is its own event, and the batch as a whole may be sent again."""
    hotel = new_hotel()
    batch = {"batch": [event(hotel), event(hotel), event(hotel, event_id="mine")]}
    for _ in range(2):
        assert await post(server, BATCH, batch, "night") == (200, "night-0,night-1,mine", "1,2,3")


async def test_key_counts_for_each_channel_alone(start_server: StartServer) -> None:
    """Outside the contract too: one key on two channels is one event on each."""
    server = await start_server(BELLHOP_UNLISTED_CHANNELS="pusher")
    body = {"name": "e", "channels": ["x", "y"], "data": "d"}
    for _ in range(2):
        assert await post(server, EVENTS, body, "k") == (200, "k", "1,1")
    assert await post(server, EVENTS, {**body, "channels": ["y", "z"]}, "k") == (200, "k", "1,1")
    path = "/apps/1/channels/x/events"
    answer = await server.api(
        "POST", path, b"d", params={"name": "e"}, headers={"Idempotency-Key": "k"}
    )
    assert (answer.status_code, answer.headers["Bellhop-Sequence"]) == (202, "1")


@pytest.mark.parametrize("path", [EVENTS, BATCH])
@pytest.mark.parametrize(
    "headers",
    [
        [(b"Idempotency-Key", b"")],
        [(b"Idempotency-Key", b"k" * 129)],
        [(b"Idempotency-Key", "Zoë".encode())],
        [(b"Idempotency-Key", b"a b")],
        [(b"Idempotency-Key", b"a"), (b"X-Idempotency-Key", b"b")],
    ],
    ids=["empty", "long", "no ASCII", "space", "two"],
)
async def test_bad_key_is_refused(
    server: Server, path: str, headers: list[tuple[bytes, bytes]]
) -> None:
    """400, and nothing goes out."""
    hotel = new_hotel()
    body: Any = event(hotel) if path == EVENTS else {"batch": [event(hotel)]}
    answer = await server.api("POST", path, body, headers=httpx.Headers(headers))
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()["error"]
    longest = "k" * 128
    assert await post(server, EVENTS, event(hotel), longest) == (200, longest, "1")
    batch = {"batch": [event(hotel)]}
    assert (await post(server, BATCH, batch, longest[1:]))[0] == 400
    assert await post(server, BATCH, batch, longest[2:]) == (200, longest[2:] + "-0", "2")
