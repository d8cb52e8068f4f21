"""Who is where, read from Redis: channels, their subscribers and members, connections.

The nodes write it, each its own part; a part counts as long as its node's heart beats. Names, after
the prefix:

    {app:channel}:sockets    hash: node -> its sockets subscribed to the channel
    {app:channel}:members    hash: presence; user id -> user_info as JSON
    {app:channel}:cache      string: the last event of a cache channel, as a bus message
    nodes                    zset: node -> time of its last heartbeat (ms, Redis' clock)
    node:ID:channels         hash: app:channel -> the node's sockets there
    node:ID:apps             hash: app -> the node's connections
    control                  pub/sub: orders to every node
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never, cast

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.broker.membership import DEAD_AFTER_S
from server.broker.message import MalformedMessage, decode
from server.errors import BrokerUnavailable

NODE_DEAD_AFTER_MS: Final = DEAD_AFTER_S * 1000

Command = tuple[str | bytes | int, ...]


class Attribute(StrEnum):
    """What can be asked of a channel; Pusher's own names."""

    USER_COUNT = "user_count"
    """Distinct members of a presence channel."""
    SUBSCRIPTION_COUNT = "subscription_count"
    """Sockets, on all nodes."""
    CACHE = "cache"
    """The last event of a cache channel."""


@dataclass(frozen=True, slots=True)
class Cached:
    """The last event of a cache channel."""

    data: str
    ttl_s: int


Value = int | Cached | None
Asked = tuple[str, Collection[Attribute]]
"""A channel, and what is to be known of it."""


class Occupancy:
    """Reads what all nodes have written; every method may raise `BrokerUnavailable`.

    ``redis`` speaks RESP2, as `server.broker.redis.connect` makes it.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix

    async def channels(self, app_id: str, starting_with: str = "") -> dict[str, int]:
        """Return the occupied channels of an app, in order, with their subscriptions."""
        live = _live_nodes(*await self._ask(self._nodes()))
        parts = await self._ask([("HGETALL", self._key(f"node:{node}:channels")) for node in live])
        wanted = f"{app_id}:{starting_with}".encode()
        counts: Counter[str] = Counter()
        for part in parts:
            for name, count in _fields(part):
                if name.startswith(wanted) and (number := _number(count)) > 0:
                    counts[name.decode(errors="replace").partition(":")[2]] += number
        return dict(sorted(counts.items()))

    async def values(self, app_id: str, asked: Sequence[Asked]) -> list[dict[Attribute, Value]]:
        """Return what is asked of each channel, in one round trip for all of them."""
        commands = self._nodes()
        for channel, attributes in asked:
            for attribute in attributes:
                commands += self._questions(app_id, channel, attribute)
        answers = iter(await self._ask(commands))
        live = frozenset(_live_nodes(next(answers), next(answers)))
        return [
            {attribute: _value(attribute, answers, live) for attribute in attributes}
            for _, attributes in asked
        ]

    async def subscription_count(self, app_id: str, channel: str) -> int:
        """Return how many sockets are subscribed to a channel, on all nodes."""
        asked = Attribute.SUBSCRIPTION_COUNT
        (values,) = await self.values(app_id, [(channel, (asked,))])
        return cast("int", values[asked])

    async def user_count(self, app_id: str, channel: str) -> int:
        """Return how many distinct members a presence channel has."""
        (values,) = await self.values(app_id, [(channel, (Attribute.USER_COUNT,))])
        return cast("int", values[Attribute.USER_COUNT])

    async def cached(self, app_id: str, channel: str) -> Cached | None:
        """Return the last event of a cache channel, if it is still remembered."""
        (values,) = await self.values(app_id, [(channel, (Attribute.CACHE,))])
        return cast("Cached | None", values[Attribute.CACHE])

    async def user_ids(self, app_id: str, channel: str) -> list[str]:
        """Return the ids of a presence channel's members, in order."""
        (ids,) = await self._ask([("HKEYS", self._key(f"{{{app_id}:{channel}}}:members"))])
        return sorted(each.decode(errors="replace") for each in cast("Iterable[bytes]", ids))

    async def connections(self, app_id: str) -> int:
        """Return how many connections an app has, on all nodes."""
        live = _live_nodes(*await self._ask(self._nodes()))
        counts = await self._ask(
            [("HGET", self._key(f"node:{node}:apps"), app_id) for node in live]
        )
        return sum(map(_number, counts))

    async def terminate(self, app_id: str, user_id: str) -> None:
        """Tell every node to end the connections of a signed-in user."""
        order = orjson.dumps({"terminate": {"app": app_id, "user": user_id}})
        await self._ask([("PUBLISH", self._key("control"), order)])

    def _nodes(self) -> list[Command]:
        """Return the questions that `_live_nodes` takes the answers of."""
        return [("TIME",), ("ZRANGE", self._key("nodes"), 0, -1, "WITHSCORES")]

    def _questions(self, app_id: str, channel: str, attribute: Attribute) -> list[Command]:
        """Return the questions that `_value` takes the answers of."""
        base = f"{self._prefix}{{{app_id}:{channel}}}"
        match attribute:
            case Attribute.USER_COUNT:
                return [("HLEN", f"{base}:members")]
            case Attribute.SUBSCRIPTION_COUNT:
                return [("HGETALL", f"{base}:sockets")]
            case Attribute.CACHE:
                return [("GET", f"{base}:cache"), ("PTTL", f"{base}:cache")]
            case _:
                assert_never(attribute)

    async def _ask(self, commands: Sequence[Command]) -> list[object]:
        """Ask all in one round trip; each key is on its own, for they are in different slots."""
        if not commands:
            return []
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        try:
            return cast("list[object]", await pipeline.execute())
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(f"Redis: {error}") from None

    def _key(self, name: str) -> str:
        return f"{self._prefix}{name}"


def _live_nodes(time: object, nodes: object) -> list[str]:
    """Read the answers to TIME and ZRANGE: nodes whose heart has beaten lately."""
    seconds, micros = cast("tuple[int, int]", time)
    oldest = seconds * 1000 + micros // 1000 - NODE_DEAD_AFTER_MS
    pairs = iter(cast("Iterable[bytes]", nodes))
    return [node.decode() for node, beat in zip(pairs, pairs, strict=True) if float(beat) >= oldest]


def _value(attribute: Attribute, answers: Iterator[object], live: frozenset[str]) -> Value:
    """Take the answers to one attribute's questions."""
    match attribute:
        case Attribute.USER_COUNT:
            return _number(next(answers))
        case Attribute.SUBSCRIPTION_COUNT:
            return sum(
                _number(count)
                for node, count in _fields(next(answers))
                if node.decode(errors="replace") in live
            )
        case Attribute.CACHE:
            return _cached(next(answers), next(answers))
        case _:
            assert_never(attribute)


def _fields(answer: object) -> Iterable[tuple[bytes, bytes]]:
    return cast("dict[bytes, bytes]", answer).items()


def _number(answer: object) -> int:
    return int(cast("bytes | int", answer)) if answer is not None else 0


def _cached(message: object, ttl_ms: object) -> Cached | None:
    if not isinstance(message, bytes) or not isinstance(ttl_ms, int) or ttl_ms <= 0:
        return None
    try:
        frames = decode(message).frames
    except MalformedMessage:
        return None
    # Views come with the widest first, and who asks holds the app's secret.
    frame = next(iter(frames.values()))
    return Cached(orjson.loads(frame)["data"], math.ceil(ttl_ms / 1000))
