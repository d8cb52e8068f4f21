"""How fast a hotel's backends may publish, by HTTP and by Redis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.harness import Server, eventually, new_hotel, room_updated

EVENTS = "/apps/1/events"
BATCH = "/apps/1/batch_events"


async def limited(start_server: StartServer, tmp_path: Path, burst: int, **more: str) -> Server:
    """Start a server that lets a hotel publish so many events, and no more for very long."""
    file = tmp_path / "limits.toml"
    file.write_text(f"[walls]\npublishes_per_s = 0.01\npublishes_burst = {burst}\n", "utf-8")
    return await start_server("--config", str(file), **more)


def event_of(hotel: str, *channels: str) -> dict[str, Any]:
    """Return a trigger of a room's news."""
    data = json.dumps(room_updated(hotel=hotel))
    return {"name": "room_updated", "channels": channels or [f"{hotel}.rooms"], "data": data}


async def test_hotel_is_told_to_wait_when_it_publishes_too_much(
    start_server: StartServer, tmp_path: Path
) -> None:
    """429 with Retry-After in whole seconds; another hotel goes on."""
    server = await limited(start_server, tmp_path, 2)
    noisy, calm = new_hotel(), new_hotel()
    for _ in range(2):
        assert (await server.api("POST", EVENTS, event_of(noisy))).status_code == 200
    answer = await server.api("POST", EVENTS, event_of(noisy))
    assert answer.status_code == 429
    assert answer.json() == {"error": f"the hotel {noisy} publishes more than 0.01 events a second"}
    assert 90 <= int(answer.headers["Retry-After"]) <= 100
    granted = await server.api("POST", EVENTS, event_of(calm))
    assert granted.status_code == 200
    assert "Retry-After" not in granted.headers


async def test_several_channels_get_all_or_nothing(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Each channel counts once; what is refused is on none of them, and costs nothing."""
    server = await limited(start_server, tmp_path, 3)
    hotel = new_hotel()
    rooms, private = f"{hotel}.rooms", f"private-{hotel}.rooms"
    async with server.staff(rooms, hotels=[hotel]) as client:
        both = event_of(hotel, rooms, private)
        assert (await server.api("POST", EVENTS, both)).status_code == 200
        assert (await server.api("POST", EVENTS, both)).status_code == 429
        last = await server.api("POST", EVENTS, event_of(hotel))
        assert (last.status_code, last.headers["Bellhop-Sequence"]) == (200, "2")
        numbers = [(await client.until("room_updated"))["data"]["meta"]["sequence"] for _ in "ab"]
        assert numbers == [1, 2]
        await client.quiet()


async def test_batch_goes_out_whole_or_not_at_all(
    start_server: StartServer, tmp_path: Path
) -> None:
    """One hotel too many events: the others of the batch do not go out either, nor count."""
    server = await limited(start_server, tmp_path, 2)
    noisy, calm = new_hotel(), new_hotel()

    def batch(*hotels: str) -> dict[str, Any]:
        entries = []
        for hotel in hotels:
            entry = event_of(hotel)
            entry["channel"] = entry.pop("channels")[0]
            entries.append(entry)
        return {"batch": entries}

    assert (await server.api("POST", BATCH, batch(noisy, calm))).status_code == 200
    refused = await server.api("POST", BATCH, batch(calm, noisy, noisy))
    assert refused.status_code == 429
    assert noisy in refused.json()["error"]
    last = await server.api("POST", BATCH, batch(noisy, calm))
    assert (last.status_code, last.headers["Bellhop-Sequence"]) == (200, "2,2")


async def test_channels_outside_the_contract_count_for_the_app(
    start_server: StartServer, tmp_path: Path
) -> None:
    """They have no hotel; the old way of 2012 counts too, and what is malformed does not."""
    server = await limited(start_server, tmp_path, 2, BELLHOP_UNLISTED_CHANNELS="pusher")
    body = {"name": "n", "channel": "news", "data": "d"}
    assert (await server.api("POST", EVENTS, {**body, "name": ""})).status_code == 400
    assert (await server.api("POST", EVENTS, body)).status_code == 200
    old = "/apps/1/channels/news/events"
    assert (await server.api("POST", old, b"d", params={"name": "n"})).status_code == 202
    assert (await server.api("POST", old, b"d", params={"name": "n"})).status_code == 429
    refused = await server.api("POST", EVENTS, body)
    assert refused.json()["error"] == "the app 1 publishes more than 0.01 events a second"
    assert (await server.api("POST", EVENTS, event_of(new_hotel()))).status_code == 200


@pytest.mark.parametrize("own_id", [True, False])
async def test_redis_publish_too_many_is_kept_as_rejected(
    start_server: StartServer, tmp_path: Path, *, own_id: bool
) -> None:
    """Status 429 on the stream, with the reason and the whole message."""
    server = await limited(start_server, tmp_path, 1)
    hotel = new_hotel()
    async with server.staff(f"{hotel}.rooms", hotels=[hotel]) as client, server.redis() as redis:
        for number in range(2):
            event = room_updated(str(number), hotel=hotel)
            if own_id:
                event["meta"]["event_id"] = f"e-{number}"
            await server.publish(f"{hotel}.rooms", event)
        entries: Any = await eventually(lambda: redis.xrange("bellhop:rejected"))
        assert (await client.until("room_updated"))["data"]["payload"]["room_number"] == "0"
        await client.quiet()
    ((_, entry),) = entries
    assert entry[b"status"] == b"429"
    assert entry[b"reason"].decode().startswith(f"the hotel {hotel} publishes more than")
    assert json.loads(entry[b"body"])["payload"]["room_number"] == "1"
