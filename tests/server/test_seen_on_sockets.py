"""What sockets of a real server get, on a contract of its own: the bytes, held to the oracle."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any, Final

import httpx
import yaml
from websockets.asyncio.client import ClientConnection

from channels_spec.reading import HOTEL_CONTRACT
from tests.conftest import StartServer
from tests.harness import APP_ID, DEADLINE_S, Server, token
from tests.visibility import (
    Json,
    Said,
    marker,
    markers,
    may_subscribe,
    place,
    refused,
    seen,
    view_of,
)

_KEYS: Final = (
    *("payment", "Deposit_paid", "payment_method", "internal_note", "INTERNAL", "note", "Note"),
    *(
        "status",
        "body",
        "sender",
        "cvv",
        "cancellation_reason",
        "confirmed_at",
        "guest",
        "room_number",
    ),
)
CHANNELS: Final = (
    *("grand.rooms", "private-grand.room-bookings", "sea-view.room-bookings", "staff-hotel-1"),
    *("guest-booking-7", "private-guest-booking.7", "guest-booking-8", "grand.spa"),
    "staff-chat-conversation-c2",
)
PEOPLE: Final[dict[str, Json]] = {
    "desk": {
        "hotels": [{"slug": "grand", "id": 1, "roles": ["front_desk"]}, "sea-view"],
        "roles": ["admin"],
        "conversations": ["c2"],
    },
    "books": {"hotels": [{"slug": "grand", "id": 1}], "roles": ["finance"]},
    "two": {
        "hotels": [
            {"slug": "grand", "id": 1, "roles": ["admin"]},
            {"slug": "sea-view", "id": "1", "roles": ["housekeeping"]},
        ]
    },
    "guest": {"kind": "guest", "hotels": ["grand"], "booking_id": 7, "scope": "STATUS_READ"},
    "chats": {"kind": "guest", "hotels": ["sea-view"], "booking_id": "7", "scope": ["CHAT"]},
    "machine": {"kind": "service", "hotels": "*"},
}
LATER: Final[dict[str, Json]] = {
    "desk": {"hotels": ["sea-view", "grand"], "roles": ["admin"], "conversations": ["c2"]},
    "books": {"hotels": [{"slug": "grand", "id": 2}, "sea-view"]},
    "guest": {
        "kind": "guest",
        "hotels": ["grand"],
        "booking_id": "7",
        "scope": ["CHAT", "STATUS_READ"],
    },
}
"""What some are when they renew their tokens."""


def contract() -> Json:
    """Return the hotel contract with one more view, one more rule and one more family."""
    document: Json = yaml.safe_load(HOTEL_CONTRACT.read_text("utf-8"))
    views = document["x-bellhop-views"]
    views["staff"]["withhold"] = [*views["staff"]["withhold"], "internal*"]
    views["finance"] = {"roles": ["finance", "manager"], "withhold": ["internal*"]}
    views["owner"] = {"roles": ["admin"]}
    views["guest"]["scope"] = ["booking_id"]
    for family in document["channels"].values():
        if family["x-bellhop-views"] == ["staff", "finance"]:
            family["x-bellhop-views"] = ["staff", "finance", "owner"]
    spa = {**document["channels"]["otherBookings"], "address": "{hotel_slug}.spa"}
    document["channels"]["spa"] = {**spa, "x-bellhop-views": ["staff", "owner"]}
    return document


def shape(rng: Random, fresh: Iterator[int], depth: int = 0) -> Any:
    """Return random JSON, each of its leaves a new marker."""
    kind = rng.choice(["leaf", "leaf", "list", "object"]) if depth < 3 else "leaf"
    if kind == "list":
        return [shape(rng, fresh, depth + 1) for _ in range(2)]
    if kind == "object":
        return {key: shape(rng, fresh, depth + 1) for key in rng.sample(_KEYS, 3)}
    return marker(next(fresh))


def event(rng: Random, document: Json, channel: str, fresh: Iterator[int]) -> Said:
    """Return a random event for a channel, of one of its hotels."""
    where = place(document, channel)
    assert where is not None
    stand_in = where.family.get("x-bellhop-unlisted")
    names = {said: where.message(said) for said in where.family["messages"] if said != stand_in}
    name = rng.choice([*names, "massage_booked"] if stand_in else [*names])
    payload = {key: shape(rng, fresh) for key in rng.sample(_KEYS, 6)}
    meta = {
        "event_id": marker(next(fresh)),
        "hotel_slug": where.hotel or rng.choice(["grand", "sea-view"]),
        "ts": marker(next(fresh)),
        "scope": {key: shape(rng, fresh) for key in rng.sample([*_KEYS, "booking_id"], 4)},
        "payment_by": shape(rng, fresh),
        "host": shape(rng, fresh),
        "sequence": shape(rng, fresh),
    }
    beside = {key: shape(rng, fresh) for key in rng.sample(_KEYS, 2)}
    body = {"category": "chat", "type": name, "payload": payload, "meta": meta, **beside}
    return Said(channel, None if rng.random() < 0.5 else name, body)


class Listener:
    """A socket, the bytes that it got, and the markers that it must get."""

    def __init__(self, socket: ClientConnection, claims: Json) -> None:
        self.socket = socket
        self.claims = claims
        self.got = b""
        self.due: set[str] = set()
        self.channels: set[str] = set()

    async def say(self, event: str, **data: Any) -> None:
        await self.socket.send(json.dumps({"event": event, "data": data}))

    async def read_until(self, *signs: str) -> None:
        """Read until each of the signs has come, in any order."""
        missing = {sign.encode() for sign in signs}
        while missing:
            message = await asyncio.wait_for(self.socket.recv(decode=False), DEADLINE_S)
            self.got += message
            missing = {sign for sign in missing if sign not in message}

    async def read_what_is_due(self) -> None:
        """Read all that must come, and what is on its way before a pong."""
        await self.read_until(*(self.due - markers(self.got)))
        await self.say("pusher:ping")
        await self.read_until("pusher:pong")

    async def subscribe(self, document: Json) -> None:
        for channel in CHANNELS:
            await self.say("pusher:subscribe", channel=channel)
        self.keep_allowed(document, set(CHANNELS))
        # Each is answered; a refusal comes at once, a success when the node listens.
        for _ in CHANNELS:
            await self.read_until(":subscription_")

    def keep_allowed(self, document: Json, channels: set[str]) -> None:
        where = {channel: place(document, channel) for channel in channels}
        self.channels = {
            name for name, at in where.items() if at and may_subscribe(self.claims, at)
        }

    def hear(self, document: Json, said: Said) -> None:
        where = place(document, said.channel)
        if where is None or said.channel not in self.channels:
            return
        if refused(said, where, strictly=False):
            return
        scope = (where.message(said.event) or {}).get("x-bellhop-guest-scope", "STATUS_READ")
        view = view_of(self.claims, where, said.hotel(where), scope)
        if view is not None:
            self.due |= seen(said, where, view)


async def trigger(server: Server, said: Said) -> None:
    """Publish over HTTP: accepted, in this mode, whatever its shape."""
    body = {"name": said.event, "channel": said.channel, "data": json.dumps(said.body)}
    answer = await server.api("POST", f"/apps/{APP_ID}/events", body)
    assert answer.status_code == 200, answer.text


async def test_sockets_get_what_their_holders_may_see_and_nothing_else(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Of dozens of events, by two entrances, before and after tokens change; logs show nothing."""
    document, rng, fresh = contract(), Random(7), itertools.count()
    file = tmp_path / "contract.yaml"
    file.write_text(yaml.safe_dump(document), "utf-8")
    server = await start_server(BELLHOP_CONTRACT=str(file), BELLHOP_CONTRACT_MODE="warn")
    async with AsyncExitStack() as stack:
        listeners = {}
        for name, claims in PEOPLE.items():
            path = f"/t/{token(name, **claims)}"
            socket = await stack.enter_async_context(server.connect(path))
            listeners[name] = Listener(socket, {"sub": name, **claims})
            await listeners[name].subscribe(document)

        async def publish(count: int, *, by_redis: bool) -> None:
            for number in range(count):
                # The last one is heard by somebody: when it is there, all before it are through.
                channel = rng.choice(CHANNELS) if number < count - 1 else CHANNELS[0]
                said = event(rng, document, channel, fresh)
                for listener in listeners.values():
                    listener.hear(document, said)
                if by_redis and said.name is None:
                    await server.publish(channel, said.body)
                elif by_redis:
                    await server.publish(channel, {"event": said.name, "data": said.body})
                else:
                    await trigger(server, said)
            for listener in listeners.values():
                await listener.read_what_is_due()

        await publish(40, by_redis=False)
        for name, claims in LATER.items():
            listener = listeners[name]
            await listener.say("bellhop:auth", token=token(name, **claims))
            await listener.read_until("bellhop:authenticated")
            listener.claims = {"sub": name, **claims}
            listener.keep_allowed(document, listener.channels)
        await listeners["machine"].say("pusher:unsubscribe", channel="staff-hotel-1")
        listeners["machine"].channels.discard("staff-hotel-1")
        await publish(40, by_redis=True)
        async with httpx.AsyncClient() as client:
            metrics = (await client.get(f"{server.url}/metrics")).text
    for name, listener in listeners.items():
        assert markers(listener.got) == listener.due, name
        assert listener.due, name
    assert not markers(server.log)
    assert not markers(metrics)
