"""`POST /batch_events`, the parameter `info`, and the path that was there before `/events`."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from tests.harness import Server, new_hotel, room_updated
from tests.http.state import State

EVENTS, BATCH = "/apps/1/events", "/apps/1/batch_events"


def event(channel: str, **more: Any) -> dict[str, Any]:
    """Return one event of a batch."""
    return {"name": "e", "channel": channel, "data": '{"a":1}', **more}


def names(count: int) -> list[str]:
    """Return names of channels that no other test has."""
    base = uuid.uuid4().hex
    return [f"{base}-{number}" for number in range(count)]


async def test_batch_is_published_in_order(plain: Server) -> None:
    """Up to ten events, on one channel or several; the answer is `{}`."""
    (channel,) = names(1)
    async with plain.client() as client:
        await client.subscribe(channel)
        batch = [event(channel, data=str(number)) for number in range(10)]
        answer = await plain.api("POST", BATCH, {"batch": batch})
        assert (answer.status_code, answer.content) == (200, b"{}")
        assert [(await client.next())["data"] for _ in range(10)] == list(range(10))
        await client.quiet()
    assert answer.headers["Bellhop-Sequence"] == "1,2,3,4,5,6,7,8,9,10"
    assert len(set(answer.headers["Bellhop-Event-Id"].split(","))) == 10


async def test_batch_may_be_empty(plain: Server) -> None:
    """A backend that had nothing to say is no fault."""
    answer = await plain.api("POST", BATCH, {"batch": []})
    assert (answer.status_code, answer.content) == (200, b"{}")
    assert "Bellhop-Sequence" not in answer.headers


async def test_batch_excludes_each_events_own_socket(plain: Server) -> None:
    """`socket_id` belongs to its event."""
    (channel,) = names(1)
    async with plain.client() as one, plain.client() as two:
        for client in (one, two):
            await client.subscribe(channel)
        batch = [
            event(channel, data="1", socket_id=one.socket_id),
            event(channel, data="2", socket_id=two.socket_id),
        ]
        assert (await plain.api("POST", BATCH, {"batch": batch})).status_code == 200
        assert (await one.next())["data"] == 2
        assert (await two.next())["data"] == 1
        for client in (one, two):
            await client.quiet()


FAULTY: dict[str, tuple[dict[str, Any], int]] = {
    "no channel": ({"channel": None}, 400),
    "reserved name": ({"name": "pusher:x"}, 400),
    "channel's name": ({"channel": "a b"}, 400),
    "too large": ({"data": "x" * 10_241}, 413),
    "socket id": ({"socket_id": "x"}, 400),
    "info": ({"info": "colour"}, 400),
}


@pytest.mark.parametrize("fault", FAULTY)
async def test_batch_is_checked_before_any_goes_out(plain: Server, fault: str) -> None:
    """All or nothing, and the answer says which event it was."""
    changes, status = FAULTY[fault]
    (channel,) = names(1)
    for position in (0, 2):
        batch = [event(channel) for _ in range(3)]
        batch[position] |= changes
        answer = await plain.api("POST", BATCH, {"batch": batch})
        assert answer.status_code == status
        assert answer.json()["error"].startswith(f"event {position} of the batch: ")
    answer = await plain.api("POST", EVENTS, event(channel))
    assert answer.headers["Bellhop-Sequence"] == "1"


async def test_batch_of_the_contract_tells_faults(server: Server) -> None:
    """422 with the JSON pointers, as on a single trigger."""
    hotel = new_hotel()
    body = room_updated(hotel=hotel)
    good = {"name": "room_updated", "channel": f"{hotel}.rooms", "data": json.dumps(body)}
    body["meta"]["event_id"] = ""
    bad = {**good, "data": json.dumps(body)}
    answer = await server.api("POST", BATCH, {"batch": [good, bad]})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("event 1 of the batch: ")
    assert [fault["pointer"] for fault in answer.json()["faults"]] == ["/meta/event_id"]
    answer = await server.api("POST", BATCH, {"batch": [good]})
    assert answer.headers["Bellhop-Sequence"] == "1"


async def test_batch_answers_info_by_index(plain: Server, state: State) -> None:
    """One entry per event, empty where nothing was asked or nothing applies."""
    public, other = names(2)
    presence = f"presence-{public}"
    await state.subscribed(public, 3)
    await state.members(presence, "u-1", "u-2")
    await state.subscribed(presence, 4)
    batch = [
        event(presence, info="user_count,subscription_count"),
        event(other),
        event(public, info="subscription_count"),
        event(public, info="user_count"),
        event(presence, info="user_count"),
    ]
    answer = await plain.api("POST", BATCH, {"batch": batch})
    assert answer.status_code == 200
    assert answer.json() == {
        "batch": [
            {"user_count": 2, "subscription_count": 4},
            {},
            {"subscription_count": 3},
            {},
            {"user_count": 2},
        ]
    }
    assert answer.headers["Bellhop-Sequence"] == "1,1,1,2,2"


async def test_trigger_answers_info_by_channel(plain: Server, state: State) -> None:
    """Every channel is there; what a kind of channel does not have is left out."""
    public, silent = names(2)
    presence = f"presence-{public}"
    await state.subscribed(public, 3)
    await state.members(presence, "u-1", "u-2")
    channels = [public, presence, silent, public]
    body = {"name": "e", "data": "x", "channels": channels}
    expected: dict[str, dict[str, dict[str, int]]] = {
        "user_count": {public: {}, presence: {"user_count": 2}, silent: {}},
        "subscription_count": {
            public: {"subscription_count": 3},
            presence: {"subscription_count": 2},
            silent: {"subscription_count": 0},
        },
    }
    for info, answered in expected.items():
        answer = await plain.api("POST", EVENTS, {**body, "info": info})
        assert answer.status_code == 200
        assert answer.json() == {"channels": answered}
        assert len(answer.headers["Bellhop-Sequence"].split(",")) == 3
    answer = await plain.api("POST", EVENTS, {**body, "info": "user_count,subscription_count"})
    both = {
        channel: expected["user_count"][channel] | rest
        for channel, rest in expected["subscription_count"].items()
    }
    assert answer.json() == {"channels": both}


async def test_info_is_checked_before_the_event_goes_out(plain: Server) -> None:
    """An attribute that cannot be asked of a trigger refuses it."""
    (channel,) = names(1)
    for info in ("colour", "user_count,cache", 5, ["user_count"]):
        answer = await plain.api("POST", EVENTS, event(channel, info=info))
        assert answer.status_code == 400
        assert "info" in answer.json()["error"]
    answer = await plain.api("POST", EVENTS, event(channel, info=""))
    assert (answer.content, answer.headers["Bellhop-Sequence"]) == (b"{}", "1")


async def test_parameters_may_stand_in_the_query(plain: Server) -> None:
    """Pusher takes them there too: all of them without a body, what the body lacks with one."""
    one, two = names(2)
    async with plain.client() as client:
        await client.subscribe(one)
        await client.subscribe(two)
        params = {"name": "e", "data": "x y+z", "channel": one}
        assert (await plain.api("POST", EVENTS, params=params)).content == b"{}"
        assert (await client.next())["data"] == "x y+z"
        answer = await plain.api(
            "POST", EVENTS, event(two), params={"info": "subscription_count", "name": "other"}
        )
        assert two in answer.json()["channels"]
        assert (await client.next())["event"] == "e"


async def test_channels_may_be_a_list_in_the_query(plain: Server) -> None:
    """`channels[]=a&channels[]=b`, signed as `channels=a,b` with the list's brackets left out."""
    one, two = names(2)
    signed = {"name": "e", "data": "x", "channels": f"{one},{two}"}
    after = {"channels": None, "channels[0]": one, "channels[1]": two}
    answer = await plain.api("POST", EVENTS, params=signed, after=after)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Bellhop-Sequence"] == "1,1"


async def test_old_path_publishes_the_body(plain: Server) -> None:
    """202: the name and the socket stand in the query, the body is the data as it is."""
    (channel,) = names(1)
    path = f"/apps/1/channels/{channel}/events"
    async with plain.client() as one, plain.client() as two:
        for client in (one, two):
            await client.subscribe(channel)
        params = {"name": "e", "socket_id": one.socket_id}
        answer = await plain.api("POST", path, b"not { json", params=params)
        assert (answer.status_code, answer.content) == (202, b"{}")
        assert answer.headers["Bellhop-Sequence"] == "1"
        frame = await two.next()
        assert (frame["event"], frame["data"]) == ("e", "not { json")
        await one.quiet()
