"""The backend of a chaos run: it publishes by every entrance, and again until it has an answer.

Each channel and entrance is a lane: its next event is published when the one before it is taken.
Taken is what HTTP answered with 200, what XADD answered with an entry id, and what PUBLISH answered
with at least one receiver.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from queue import SimpleQueue
from random import Random
from typing import Any, Final, assert_never

import pusher
import requests
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tests.chaos.plan import Channel, Feed
from tests.harness import APP_ID, APP_KEY, APP_SECRET, room_updated

PUBLISH_WITHOUT_ID: Final = False
"""Whether events without an id of their own are PUBLISHed too. One node takes those; when it dies,
nobody knows whether it had taken the last of them."""
_AGAIN_S: Final = 0.1
_PATIENCE_S: Final = 15.0
"""Longer than any timeout of the libraries themselves."""
_AT_ONCE: Final = 8
"""Requests by HTTP that are under way at the same time."""


class Entrance(Enum):
    """By what way an event comes in."""

    PUBLISH = "Redis PUBLISH"
    STREAM = "XADD to the stream"
    HTTP = "HTTP, by the released library"


@dataclass(slots=True)
class Event:
    """One event, as its publisher knows it."""

    event_id: str
    channel: str
    entrance: Entrance
    number: int
    """In its lane."""
    tried_ms: int = 0
    taken_ms: int = 0


@dataclass
class _Lane:
    channel: Channel
    entrance: Entrance
    numbers: count[int] = field(default_factory=lambda: count(1))
    waiting: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)


class Publishing:
    """Publishes to channels in turn, at a rate."""

    def __init__(
        self,
        redis_url: str,
        http_port: int,
        channels: list[Channel],
        random: Random,
        born: Callable[[Event], None],
    ) -> None:
        """Create a backend; ``born`` is called with each event before it is first published."""
        self._born = born
        self._random = random
        # Retried here, where it is known whether that is safe.
        self._redis = Redis.from_url(redis_url, socket_timeout=5, retry=Retry(NoBackoff(), 0))
        self._threads = ThreadPoolExecutor(_AT_ONCE)
        self._libraries: SimpleQueue[Any] = SimpleQueue()
        for _ in range(_AT_ONCE):
            self._libraries.put(
                pusher.Pusher(
                    app_id=APP_ID,
                    key=APP_KEY,
                    secret=APP_SECRET,
                    host="127.0.0.1",
                    port=http_port,
                    ssl=False,
                    timeout=3,
                )
            )
        self.lanes = [
            _Lane(channel, entrance)
            for channel in channels
            for entrance in Entrance
            if channel.feed is not Feed.PLAIN
            or entrance is not Entrance.PUBLISH
            or PUBLISH_WITHOUT_ID
        ]
        self.by_publish = asyncio.Event()
        """Cleared while nobody would hear a PUBLISH, though Redis might still count receivers."""
        self.by_publish.set()
        self.unanswered = 0
        self.taken: Counter[Entrance] = Counter()
        self.retries = 0

    async def publish_for(self, seconds: float, per_s: float) -> None:
        """Give events to the lanes at a rate, then await that all are taken."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in count():
            due = began + number / per_s
            if due - began > seconds:
                break
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            self._next(self._random.choice(self.lanes))
        await self.settled()

    async def publish_last(self) -> None:
        """Publish one last event on every channel, after all the others."""
        for lane in self.lanes:
            if lane.entrance is Entrance.HTTP:
                self._next(lane)
        await self.settled()

    async def settled(self) -> None:
        """Await that every event is taken."""
        for lane in self.lanes:
            await lane.waiting.join()

    def _next(self, lane: _Lane) -> None:
        event = Event(str(uuid.uuid4()), lane.channel.name, lane.entrance, next(lane.numbers))
        self.unanswered += 1
        lane.waiting.put_nowait(event)

    async def run(self) -> None:
        """Publish what the lanes are given, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for lane in self.lanes:
                    tasks.create_task(self._run(lane))
        finally:
            await self._redis.aclose()
            self._threads.shutdown(cancel_futures=True)

    async def _run(self, lane: _Lane) -> None:
        publish = {
            Entrance.PUBLISH: self._by_publish,
            Entrance.STREAM: self._by_stream,
            Entrance.HTTP: self._by_http,
        }[lane.entrance]
        while True:
            event = await lane.waiting.get()
            name, body = _event(lane.channel, event)
            event.tried_ms = round(time.time() * 1000)
            self._born(event)
            while not await _in_time(publish(lane.channel, name, body)):
                self.retries += 1
                await asyncio.sleep(_AGAIN_S)
            event.taken_ms = round(time.time() * 1000)
            self.taken[lane.entrance] += 1
            self.unanswered -= 1
            lane.waiting.task_done()

    async def _by_publish(self, channel: Channel, name: str, body: dict[str, Any]) -> bool:
        await self.by_publish.wait()
        message = body if "meta" in body else {"event": name, "data": body}
        with contextlib.suppress(RedisError, OSError):
            address = f"bellhop:publish:{channel.name}"
            return bool(await self._redis.publish(address, json.dumps(message)))
        return False

    async def _by_stream(self, channel: Channel, name: str, body: dict[str, Any]) -> bool:
        fields: dict[Any, Any] = {"channel": channel.name, "event": name, "data": json.dumps(body)}
        with contextlib.suppress(RedisError, OSError):
            return bool(await self._redis.xadd("bellhop:publish", fields))
        return False

    async def _by_http(self, channel: Channel, name: str, body: dict[str, Any]) -> bool:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._trigger, channel.name, name, body)

    def _trigger(self, channel: str, name: str, body: dict[str, Any]) -> bool:
        library = self._libraries.get()
        try:
            library.trigger(channel, name, body)
        except (pusher.errors.PusherError, requests.RequestException):
            return False
        else:
            return True
        finally:
            self._libraries.put(library)


async def _in_time(published: Awaitable[bool]) -> bool:
    """Return whether an event was taken; no answer is no."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            return await published
    return False


def _event(channel: Channel, event: Event) -> tuple[str, dict[str, Any]]:
    """Return an event's name and body."""
    number, when = event.number, "2026-01-20T10:30:00Z"
    match channel.feed:
        case Feed.PLAIN:
            return "news", {"event_id": event.event_id}
        case Feed.ROOMS | Feed.STAFF:
            body = room_updated(str(100 + number % 50), hotel=channel.hotel)
        case Feed.BOOKINGS:
            scope = {"booking_id": f"B-{number}", "status": "CONFIRMED"}
            body = _envelope("room_booking", "booking_updated", scope, scope)
        case Feed.GUEST:
            scope = {"booking_id": channel.of}
            payload = {**scope, "status": "CONFIRMED", "confirmed_at": when}
            body = _envelope("guest_booking", "booking_confirmed", payload, scope)
        case Feed.CHAT:
            payload = {"message_id": event.event_id, "conversation_id": channel.of}
            body = _envelope("staff_chat", "staff_chat_message_created", payload, {})
        case _:
            assert_never(channel.feed)
    body["meta"] |= {"event_id": event.event_id, "hotel_slug": channel.hotel, "ts": when}
    return body["type"], body


def _envelope(
    category: str, name: str, payload: dict[str, str], scope: dict[str, str]
) -> dict[str, Any]:
    return {"category": category, "type": name, "payload": payload, "meta": {"scope": scope}}
