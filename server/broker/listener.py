"""One pub/sub connection to Redis that keeps its subscriptions through outages.

redis-py's own `PubSub` reconnects inside whichever call notices the loss, and says nothing of when
a subscription is in force again; both matter here, so this speaks over a plain redis-py connection.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import BusyLoadingError, RedisError

from server.cancellation import cancellations, raise_if_cancelled

_PING_S: Final = 1.0
_LOST_AFTER_S: Final = 15.0
_LINGER_S: Final = 5.0
"""How long an unwatched name stays subscribed, for the tab that comes straight back."""
_BACKOFF_S: Final = (0.05, 2.0)
_NAMES_PER_COMMAND: Final = 500
_MESSAGES_PER_TURN: Final = 256
"""Messages read before other tasks get their turn, however many are there."""

log = structlog.get_logger()


def _nothing(seconds: float) -> None:
    """Do nothing."""


class _Name:
    """One bus channel: whether it is wanted, and what Redis was last told of it."""

    __slots__ = ("asked", "confirmed", "unwanted_at", "wanted")

    def __init__(self) -> None:
        self.wanted = True
        self.asked = False
        self.confirmed = False
        self.unwanted_at = 0.0


class Listener:
    """Listens to bus channels and patterns; calls back on the event loop, in order of arrival."""

    def __init__(
        self,
        pool: ConnectionPool,
        *,
        on_message: Callable[[bytes, bytes], None],
        on_confirmed: Callable[[bytes], None],
        patterns: Iterable[bytes] = (),
        first: Iterable[bytes] = (),
        catch_up: Callable[[], Awaitable[None]] | None = None,
        on_lost: Callable[[float], None] = _nothing,
        on_heard: Callable[[float], None] = _nothing,
    ) -> None:
        """Create a listener; `run` connects.

        Args:
            pool: where connections come from.
            on_message: called with (bus channel, data).
            on_confirmed: called with a bus channel when Redis has confirmed the subscription to it.
            patterns: subscribed to for as long as the listener runs.
            first: bus channels that are listened to before any other, and for ever.
            on_lost: called when a connection that stood is lost, with the seconds for which it had
                been silent: since then messages may have been missed.
            on_heard: called about once a second with the latest time (s) for which it is known that
                all that was published before has come in, and what came of it in that turn of the
                event loop is done.
            catch_up: awaited on every connection when those are in force, before any other is.

        """
        self._pool = pool
        self._on_message = on_message
        self._on_confirmed = on_confirmed
        self._patterns = tuple(patterns)
        self._first = tuple(first)
        self._catch_up = catch_up
        self._on_lost = on_lost
        self._on_heard = on_heard
        self._first_confirmed = asyncio.Event()
        self._caught_up = False
        self._names: dict[bytes, _Name] = {}
        self._changed = asyncio.Event()
        self._to_subscribe: dict[bytes, None] = {}
        self._unwanted: dict[bytes, None] = {}
        self._patterns_confirmed = 0
        self._connected = False
        self._heard_at = 0.0

    @property
    def ready(self) -> bool:
        """Whether the connection stands and every pattern is in force."""
        return self._caught_up and self._patterns_confirmed == len(self._patterns)

    def watch(self, name: bytes) -> bool:
        """Listen to a bus channel; True where it is in force already."""
        entry = self._names.get(name)
        if entry is None:
            entry = self._names[name] = _Name()
        entry.wanted = True
        self._unwanted.pop(name, None)
        if not entry.asked:
            self._to_subscribe[name] = None
            self._changed.set()
        return entry.confirmed

    def unwatch(self, name: bytes) -> None:
        """Stop listening to a bus channel, after a while."""
        entry = self._names.get(name)
        if entry is not None:
            entry.wanted = False
            entry.unwanted_at = asyncio.get_running_loop().time()
            self._unwanted[name] = None

    async def run(self) -> None:
        """Listen until cancelled, reconnecting with backoff and jitter."""
        backoff = _BACKOFF_S[0]
        while True:
            connection: AbstractConnection | None = None
            known = cancellations()
            try:
                connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py leaves it so
                await self._ask_for_patterns(connection)
                raise_if_cancelled(beside=known)
                await self._listen(connection)
            except* (RedisError, OSError) as group:
                cause = group.exceptions[0]
                if self._connected or backoff == _BACKOFF_S[0]:
                    log.warning("broker.lost", cause=type(cause).__name__, error=str(cause)[:200])
                if self._connected:
                    backoff = _BACKOFF_S[0]
            finally:
                self._disconnected()
                if connection is not None:
                    await connection.disconnect(nowait=True)
                    await self._pool.release(connection)
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))  # noqa: S311  jitter, no secret
            backoff = min(backoff * 2, _BACKOFF_S[1])

    def _disconnected(self) -> None:
        if self._connected:
            self._on_lost(asyncio.get_running_loop().time() - self._heard_at)
        self._connected = self._caught_up = False
        self._first_confirmed.clear()
        self._patterns_confirmed = 0
        for name, entry in list(self._names.items()):
            if not entry.wanted:
                del self._names[name]
                # It may have come and gone between two attempts to connect.
                self._to_subscribe.pop(name, None)
                continue
            entry.asked = entry.confirmed = False
            self._to_subscribe[name] = None
        self._unwanted.clear()
        self._changed.set()

    async def _ask_for_patterns(self, connection: AbstractConnection) -> None:
        if self._patterns:
            await connection.send_command("PSUBSCRIBE", *self._patterns)

    async def _listen(self, connection: AbstractConnection) -> None:
        self._connected = True
        self._heard_at = asyncio.get_running_loop().time()
        log.info("broker.connected", channels=len(self._names))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write(connection))
            tasks.create_task(self._read(connection))

    async def _write(self, connection: AbstractConnection) -> None:
        """Tell Redis what changed, and ask whether it still lives."""
        loop = asyncio.get_running_loop()
        pinged_at = loop.time()
        await self._begin(connection)
        while True:
            await self._subscribe(connection)
            await self._unsubscribe(connection, loop.time())
            raise_if_cancelled()
            if loop.time() - self._heard_at > _LOST_AFTER_S:
                raise ConnectionError("Redis does not answer the listening connection")
            if loop.time() - pinged_at >= _PING_S:
                pinged_at = loop.time()
                # What was published before comes in before the answer, which brings the time back.
                await connection.send_command("PING", repr(time.time()))
            try:
                async with asyncio.timeout(1.0):
                    await self._changed.wait()
            except TimeoutError:
                continue
            self._changed.clear()

    async def _begin(self, connection: AbstractConnection) -> None:
        """Listen to what comes first, and catch up with what was missed of it."""
        for name in self._first:
            entry = self._names.setdefault(name, _Name())
            entry.asked = True
            self._to_subscribe.pop(name, None)
        if self._first:
            await connection.send_command("SUBSCRIBE", *self._first)
            raise_if_cancelled()
            async with asyncio.timeout(_LOST_AFTER_S):
                await self._first_confirmed.wait()
        if self._catch_up is not None:
            await self._catch_up()
        self._caught_up = True

    async def _subscribe(self, connection: AbstractConnection) -> None:
        while self._to_subscribe:
            names = list(self._to_subscribe)[:_NAMES_PER_COMMAND]
            for name in names:
                del self._to_subscribe[name]
                self._names[name].asked = True
            await connection.send_command("SUBSCRIBE", *names)

    async def _unsubscribe(self, connection: AbstractConnection, now: float) -> None:
        ripe = [
            name
            for name in self._unwanted
            if (entry := self._names[name]).confirmed and now - entry.unwanted_at >= _LINGER_S
        ][:_NAMES_PER_COMMAND]
        for name in ripe:
            del self._unwanted[name]
            # Forgotten at once: a watch from now on sends a SUBSCRIBE of its own, after this
            # UNSUBSCRIBE on the same connection, and is confirmed by that one's answer.
            del self._names[name]
        if ripe:
            await connection.send_command("UNSUBSCRIBE", *ripe)

    async def _read(self, connection: AbstractConnection) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for _ in range(_MESSAGES_PER_TURN):
                try:
                    answer = await connection.read_response(
                        disable_decoding=True, timeout=math.inf, disconnect_on_error=False
                    )
                except BusyLoadingError:
                    # Redis reads its file back, and passes on what is PUBLISHed already.
                    answer = None
                self._heard_at = loop.time()
                if isinstance(answer, list):
                    self._take(answer)
            await asyncio.sleep(0)

    def _take(self, answer: list[bytes]) -> None:
        match answer:
            case [b"message", name, data]:
                self._on_message(name, data)
            case [b"pmessage", _, name, data]:
                self._on_message(name, data)
            case [b"subscribe", name, _]:
                entry = self._names.get(name)
                if entry is not None and entry.asked and not entry.confirmed:
                    entry.confirmed = True
                    self._on_confirmed(name)
                if all(self._names[each].confirmed for each in self._first):
                    self._first_confirmed.set()
            case [b"pong", sent] if sent:
                # After what the messages before it have put off to the end of this turn.
                asyncio.get_running_loop().call_soon(self._on_heard, float(sent))
            case [b"psubscribe", *_]:
                self._patterns_confirmed += 1
            case _:
                pass
