"""`GET /apps/{id}/channels/{name}/events`: what a channel has carried, as far as it is kept."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import pytest
import yaml

from channels_spec.reading import HOTEL_CONTRACT
from tests.conftest import StartServer
from tests.harness import Server, new_hotel, room_updated

PAYMENT = {"payment_status": "PAID"}


def path_of(channel: str) -> str:
    """Return the path of a channel's past."""
    return f"/apps/1/channels/{channel}/events"


async def past(server: Server, channel: str, **params: str) -> dict[str, Any]:
    """Ask for a channel's past; it is there."""
    answer = await server.api("GET", path_of(channel), params=params)
    assert answer.status_code == 200, answer.text
    decoded: dict[str, Any] = answer.json()
    return decoded


async def carry(server: Server, hotel: str, rooms: int, **payload: Any) -> str:
    """Publish so many events on a hotel's rooms; return the channel."""
    channel = f"{hotel}.rooms"
    for room in range(1, rooms + 1):
        event = room_updated(str(room), hotel=hotel, **payload)
        await asyncio.to_thread(server.pusher().trigger, channel, "room_updated", event)
    return channel


def rooms_of(answer: dict[str, Any]) -> list[int]:
    """Return the rooms that the events are about."""
    return [int(json.loads(each["data"])["payload"]["room_number"]) for each in answer["events"]]


async def test_events_are_those_that_subscribers_got(server: Server) -> None:
    """Oldest first, `data` the very string, and what identifies each beside it."""
    hotel = new_hotel()
    async with server.staff(f"{hotel}.rooms", hotels=[hotel]) as client:
        channel = await carry(server, hotel, 2)
        frames = [json.loads(await client.socket.recv()) for _ in range(2)]
    answer = await past(server, channel)
    assert [(each["event"], each["data"]) for each in answer["events"]] == [
        (frame["event"], frame["data"]) for frame in frames
    ]
    assert [each["sequence"] for each in answer["events"]] == [1, 2]
    for each in answer["events"]:
        meta = json.loads(each["data"])["meta"]
        assert (each["event_id"], each["epoch"]) == (meta["event_id"], answer["epoch"])
        assert each["time_ms"] > 1_700_000_000_000
    assert (answer["sequence"], answer["complete"]) == (2, True)


async def test_backend_sees_the_fullest_view(server: Server) -> None:
    """Also what is withheld from most of the staff."""
    channel = await carry(server, new_hotel(), 1, **PAYMENT)
    (event,) = (await past(server, channel))["events"]
    assert json.loads(event["data"])["payload"]["payment_status"] == "PAID"


async def test_since_and_limit_give_one_page_after_the_other(server: Server) -> None:
    """Who has less than the channel's sequence asks again with the last that it has."""
    channel = await carry(server, new_hotel(), 5)
    first = await past(server, channel, limit="2")
    assert (rooms_of(first), first["sequence"], first["complete"]) == ([1, 2], 5, True)
    since = f"{first['epoch']}:{first['events'][-1]['sequence']}"
    second = await past(server, channel, since=since, limit="1000")
    assert (rooms_of(second), second["complete"]) == ([3, 4, 5], True)
    nothing = await past(server, channel, since=f"{first['epoch']}:5")
    assert (nothing["events"], nothing["complete"]) == ([], True)


async def test_another_epoch_is_not_complete(server: Server) -> None:
    """Its numbers say nothing about this one: all that is kept, and that it is not all."""
    channel = await carry(server, new_hotel(), 2)
    answer = await past(server, channel, since="0ther:1")
    assert (rooms_of(answer), answer["complete"]) == ([1, 2], False)


async def test_what_is_not_kept_any_more_is_missed(server: Server) -> None:
    """Only by who has not had it."""
    channel = await carry(server, new_hotel(), 3)
    epoch = (await past(server, channel))["epoch"]
    async with server.redis() as redis:
        log = f"bellhop:{{1:{channel}}}:log"
        entries: Any = await redis.xrange(log)
        await redis.xdel(log, entries[0][0], entries[1][0])
        for sequence, complete in ((0, False), (1, False), (2, True), (3, True)):
            answer = await past(server, channel, since=f"{epoch}:{sequence}")
            assert answer["complete"] is complete, sequence
        await redis.delete(f"bellhop:{{1:{channel}}}", log)
    answer = await past(server, channel, since=f"{epoch}:1")
    assert answer == {"epoch": "", "sequence": 0, "complete": False, "events": []}


@pytest.mark.parametrize("channel", ["hotel-nowhere.rooms", "never.heard.of", "presence-x"])
async def test_channel_that_carried_nothing_is_empty(server: Server, channel: str) -> None:
    """As with Pusher's own reading endpoints, that is no error."""
    nothing = {"epoch": "", "sequence": 0, "complete": True, "events": []}
    assert await past(server, channel) == nothing


async def test_channel_outside_the_contract_has_a_past(plain: Server) -> None:
    """The publisher's string as it came, however its name has to be written in a path."""
    for channel in (uuid.uuid4().hex, f"#server-to-user-{uuid.uuid4().hex}"):
        await asyncio.to_thread(plain.pusher().trigger, channel, "posted", "plain words")
        (event,) = (await past(plain, channel.replace("#", "%23")))["events"]
        assert (event["event"], event["data"], event["sequence"]) == ("posted", "plain words", 1)


async def test_past_outlives_a_change_of_the_contract(
    server: Server, start_server: StartServer, tmp_path: Any
) -> None:
    """Views had other names when an event was published: it is shown in the fullest of those."""
    channel = await carry(server, new_hotel(), 1, **PAYMENT)
    contract = yaml.safe_load(HOTEL_CONTRACT.read_text("utf-8"))
    views = contract["x-bellhop-views"]
    views["money"] = views.pop("finance")
    for family in contract["channels"].values():
        used = family["x-bellhop-views"]
        family["x-bellhop-views"] = ["money" if each == "finance" else each for each in used]
    folder = tmp_path / "contract"
    folder.mkdir()
    (folder / "hotel.yaml").write_text(yaml.safe_dump(contract), "utf-8")
    (folder / "schemas").symlink_to(HOTEL_CONTRACT.parent / "schemas")
    changed = await start_server(
        REDIS_URL=server.redis_url, BELLHOP_CONTRACT=str(folder / "hotel.yaml")
    )
    (event,) = (await past(changed, channel))["events"]
    assert json.loads(event["data"])["payload"]["payment_status"] == "PAID"


WRONG: dict[str, tuple[str, dict[str, str], str]] = {
    "since without epoch": ("c", {"since": "5"}, "since is EPOCH:SEQUENCE"),
    "since of nothing": ("c", {"since": ""}, "since is EPOCH:SEQUENCE"),
    "since of other digits": ("c", {"since": "e:٣"}, "since is EPOCH:SEQUENCE"),
    "since without end": ("c", {"since": "e:" + "1" * 19}, "since is EPOCH:SEQUENCE"),
    "limit of nothing": ("c", {"limit": "0"}, "limit is a whole number from 1 to 1000"),
    "limit too high": ("c", {"limit": "1001"}, "limit is a whole number from 1 to 1000"),
    "limit without end": ("c", {"limit": "9" * 5_000}, "limit is a whole number"),
    "limit below": ("c", {"limit": "-1"}, "limit is a whole number"),
    "limit of other digits": ("c", {"limit": "٣"}, "limit is a whole number"),
    "name": ("a%20b", {}, "not a channel name"),
}


@pytest.mark.parametrize("fault", WRONG)
async def test_wrong_parameter_is_refused(server: Server, fault: str) -> None:
    """400, and what would be right."""
    channel, params, reason = WRONG[fault]
    answer = await server.api("GET", path_of(channel), params=params)
    assert answer.status_code == 400
    assert reason in answer.json()["error"]


async def test_past_needs_the_signature(server: Server) -> None:
    """401: it shows everything."""
    answer = await server.api("GET", path_of("c"), secret="another")
    assert answer.status_code == 401
