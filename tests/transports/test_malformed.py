"""A thousand malformed inputs through real sockets: each is answered, and harms nobody else."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable
from typing import Any

from tests.harness import Server, new_hotel, room_updated, token

INPUTS = 1_000
MAX_MESSAGE = 64 * 1024
Sent = str | bytes
Values = list[Any]

JUNK: Values = [None, True, 0, -1, 1e308, 2**64, "", "x", [], {}, [[]], {"a": None}, "\0", "\u2028"]
EVENTS = ["pusher:subscribe", "pusher:unsubscribe", "pusher:signin", "bellhop:auth"]


def text_of(chance: random.Random, size: int) -> str:
    """Return printable junk."""
    return "".join(chance.choices(string.printable, k=size))


def not_json(chance: random.Random) -> str:
    """Text that is no JSON: cut, garbled, or of another tongue."""
    whole = json.dumps({"event": "pusher:subscribe", "data": {"channel": "hotel.rooms"}})
    cut = whole[: chance.randrange(1, len(whole))]
    at = chance.randrange(len(whole))
    garbled = whole[:at] + chance.choice("\x00\x01\x1f\x7f}{") + whole[at:]
    junk = "~" + text_of(chance, chance.randrange(200))
    return (
        chance.choice([cut, whole + "}", junk, "NaN", "{'event':'x'}", '{"event":"\\ud800"}', ""])
        or garbled
    )


def not_an_object(chance: random.Random) -> str:
    """JSON that is no object."""
    return json.dumps(chance.choice([junk for junk in JUNK if not isinstance(junk, dict)]))


def nested(chance: random.Random) -> str:
    """JSON nested more deeply than any parser's stack should go."""
    opening, closing, depth = chance.choice([("[", "]", 30_000), ('{"event":', "}", 5_000)])
    depth -= chance.randrange(depth - 1_100)
    return opening * depth + ("null" + closing * depth) * chance.randrange(2)


def wrong_types(chance: random.Random) -> str:
    """A known command whose fields are of other types than they should be."""
    fields = {"channel": [], "auth": 1, "channel_data": {}, "token": [], "user_data": 5}
    data = chance.choice(
        [*(junk for junk in JUNK if not isinstance(junk, dict)), fields, json.dumps(fields), "{"]
    )
    return json.dumps({"event": chance.choice(EVENTS), "data": data, "channel": None})


def event_of_no_kind(chance: random.Random) -> str:
    """An object whose event is missing, unknown, not a string, or endless."""
    name = chance.choice([*JUNK, "pusher:unknown", "x" * 201, "x" * 20_000, text_of(chance, 50)])
    return json.dumps(chance.choice([{"event": name}, {"data": name}, {}, {"event": "no such"}]))


def channel_of_no_kind(chance: random.Random) -> str:
    """A subscribe or unsubscribe with what can be no channel's name."""
    name = chance.choice(
        [
            "x" * 201,
            "x" * 20_000,
            "a b",
            "zürich.rooms",
            "#other",
            "a:b",
            "a\nb",
            "*",
            "a/../b",
            "hotel.rooms\0",
            text_of(chance, 30) + " ",
        ]
    )
    event = chance.choice(["pusher:subscribe", "pusher:unsubscribe"])
    return json.dumps({"event": event, "data": {"channel": name}, "channel": name})


def client_event(chance: random.Random) -> str:
    """A client event where none is allowed, or on what is no channel."""
    channels: Values = [
        "hotel.rooms",
        "private-hotel.rooms",
        "presence-hotel.area",
        "a b",
        None,
        [],
    ]
    name = "client-" + text_of(chance, chance.choice([20, 300]))
    return json.dumps({"event": name, "channel": chance.choice(channels), "data": {}})


def binary(chance: random.Random) -> bytes:
    """A binary frame."""
    return chance.randbytes(chance.randrange(500))


def not_utf8(chance: random.Random) -> bytes:
    """The bytes of a text frame that is not UTF-8."""
    bad = chance.choice(
        [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xe2\x82"]
    )
    return b'{"event":"' + b"x" * chance.randrange(50) + bad + b'"}'


def oversized(chance: random.Random) -> str:
    """A message beyond the limit."""
    return " " * (MAX_MESSAGE + 1 + chance.randrange(MAX_MESSAGE))


# What it is, how often it comes, and the `pusher:error` or the close code that it is answered with.
ANSWERED: dict[Callable[[random.Random], str], tuple[int, int]] = {
    not_json: (4, 4300),
    not_an_object: (2, 4300),
    nested: (2, 4300),
    wrong_types: (4, 4300),
    event_of_no_kind: (4, 4300),
    channel_of_no_kind: (4, 4300),
    client_event: (2, 4301),
}
CLOSED: dict[Callable[[random.Random], Sent], tuple[int, int]] = {
    binary: (1, 1003),
    not_utf8: (1, 1007),
    oversized: (1, 1009),
}


async def provoke(server: Server, chance: random.Random, jwt: str, count: int) -> int:
    """Send inputs on one connection, up to the first that closes it; return how many."""
    makers = [(make, *row) for make, row in (*ANSWERED.items(), *CLOSED.items())]
    async with server.client(f"/t/{jwt}") as client:
        for sent_before in range(count):
            make, _, code = chance.choices(makers, [weight for _, weight, _ in makers])[0]
            sent = make(chance)
            await client.socket.send(sent, text=make is not binary)
            if make in CLOSED:
                assert (await client.closed())[0] == code, (make.__name__, sent)
                return sent_before + 1
            frame = await client.next()
            answer = (frame["event"], frame["data"].get("code"))
            assert answer == ("pusher:error", code), (make.__name__, sent[:200], frame)
            assert frame["data"]["message"]
    return count


async def test_malformed_input_is_answered_and_harms_nobody(server: Server) -> None:
    """Each gets its documented error; a neighbour misses nothing; no fault of ours is logged."""
    chance = random.Random(20251220)
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    logged_before = len(server.log)
    published = 0
    async with server.staff(rooms, hotels=[hotel]) as neighbour:
        left = INPUTS
        while left > 0:
            count = min(left, chance.randrange(1, 20))
            left -= await provoke(server, chance, token(hotels=[hotel]), count)
            published += 1
            await server.publish(rooms, room_updated(str(published), hotel=hotel))
        for number in range(1, published + 1):
            body = (await neighbour.next())["data"]
            assert (body["meta"]["sequence"], body["payload"]["room_number"]) == (
                number,
                str(number),
            )
    log = server.log[logged_before:]
    assert "Traceback" not in log
    assert "connection.failed" not in log


async def test_malformed_input_leaves_the_sender_connected(server: Server) -> None:
    """A 4300 costs nothing: what was subscribed stays subscribed."""
    hotel = new_hotel()
    rooms = f"{hotel}.rooms"
    async with server.staff(rooms, hotels=[hotel]) as client:
        await client.socket.send("{")
        assert (await client.next())["data"]["code"] == 4300
        await server.publish(rooms, room_updated(hotel=hotel))
        await client.until("room_updated")


async def test_error_of_a_client_event_names_its_channel(server: Server) -> None:
    """So that `channel.bind('pusher:error')` hears of it."""
    async with server.client() as client:
        await client.send("client-typing", channel="hotel.rooms")
        frame = await client.next()
    assert (frame["channel"], frame["data"]["code"]) == ("hotel.rooms", 4301)
