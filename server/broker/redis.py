"""The broker over Redis or Valkey.

All keys and the bus channel of one channel share the hash tag ``{app:channel}``, so that no script
touches two slots. Names, after the prefix:

    {app:channel}            hash: sequence, epoch
    {app:channel}:log        stream: the history
    {app:channel}:seen:ID    string: the number of an event
    {app:channel}:bus        pub/sub channel
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from server.broker.interface import Receipt, Receiver
from server.broker.listener import Listener
from server.broker.message import MalformedMessage, Publication, decode
from server.errors import BrokerUnavailable

_PIPELINE: Final = 128
"""Publications that travel in one round trip."""
_MAX_WAITING: Final = 20_000
"""Publications that may wait for Redis; more are refused at once."""
_COMMAND_TIMEOUT_S: Final = 5.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class History:
    """How much of a channel is remembered, and for how long."""

    seconds: int = 120
    events: int = 1000
    dedupe_s: int = 600
    idle_s: int = 86_400


def connect(url: str) -> Redis:
    """Return a client that never retries by itself: its callers know when that is safe."""
    return Redis.from_url(
        url,
        protocol=2,
        socket_timeout=_COMMAND_TIMEOUT_S,
        socket_connect_timeout=_COMMAND_TIMEOUT_S,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
    )


class RedisBroker:
    """Publishes with one script per event, and listens to the channels that the node watches."""

    def __init__(self, redis: Redis, prefix: str, history: History) -> None:
        self._redis = redis
        self._prefix = prefix
        self._history = history
        self._script = files("server.broker").joinpath("scripts/publish.lua").read_text("utf-8")
        self._sha = ""
        self._waiting: deque[tuple[Publication, asyncio.Future[Receipt]]] = deque()
        self._wake = asyncio.Event()
        self._receiver: Receiver | None = None
        self._watched: dict[bytes, tuple[str, str]] = {}
        self._listener = Listener(
            redis.connection_pool,
            on_message=self._message,
            on_confirmed=self._confirmed,
            # Redis wants one subscription to be in force before it counts as listening.
            patterns=(),
        )

    @property
    def ready(self) -> bool:
        """Whether the broker answers and is listened to."""
        return self._listener.ready

    def bring_to(self, receiver: Receiver) -> None:
        """Set where events go; before `run`."""
        self._receiver = receiver

    async def run(self) -> None:
        """Listen and publish until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listener.run())
                tasks.create_task(self._publish_waiting())
        finally:
            self._fail([entry[1] for entry in self._waiting], "the broker is shut down")
            self._waiting.clear()

    # --- listening -------------------------------------------------------------------------------

    def watch(self, app_id: str, channel: str) -> bool:
        """Listen to a channel; True where that is in force already, else `watched` is called."""
        name = self._bus(app_id, channel)
        self._watched[name] = (app_id, channel)
        return self._listener.watch(name)

    def unwatch(self, app_id: str, channel: str) -> None:
        """Stop listening to a channel."""
        name = self._bus(app_id, channel)
        self._watched.pop(name, None)
        self._listener.unwatch(name)

    def _message(self, name: bytes, data: bytes) -> None:
        watched = self._watched.get(name)
        if watched is None or self._receiver is None:
            return
        try:
            message = decode(data)
        except MalformedMessage as error:
            log.warning("bus.malformed", channel=watched[1], error=str(error))
            return
        self._receiver.fan_out(*watched, message)

    def _confirmed(self, name: bytes) -> None:
        watched = self._watched.get(name)
        if watched is not None and self._receiver is not None:
            self._receiver.watched(*watched)

    # --- publishing ------------------------------------------------------------------------------

    def publish(self, publication: Publication) -> asyncio.Future[Receipt]:
        """Dedupe, number, store and publish at once; may raise `BrokerUnavailable`.

        Publications of one node reach Redis in the order of these calls.
        """
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        if len(self._waiting) >= _MAX_WAITING:
            future.set_exception(BrokerUnavailable("too many events wait for Redis"))
            return future
        self._waiting.append((publication, future))
        self._wake.set()
        return future

    async def _publish_waiting(self) -> None:
        """Send what waits, one pipeline after the other, so that order is kept."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                count = min(len(self._waiting), _PIPELINE)
                batch = [self._waiting.popleft() for _ in range(count)]
                try:
                    await self._publish_batch(batch)
                except (RedisError, OSError) as error:
                    self._fail([future for _, future in batch], f"Redis: {error}")
                except BaseException:
                    self._fail([future for _, future in batch], "the broker is shut down")
                    raise

    async def _publish_batch(
        self, batch: Sequence[tuple[Publication, asyncio.Future[Receipt]]]
    ) -> None:
        if not self._sha:
            self._sha = await self._redis.script_load(self._script)
        answers = await self._evaluate([publication for publication, _ in batch])
        if any(isinstance(answer, NoScriptError) for answer in answers):
            # Redis was restarted. What did run is caught by its event id.
            self._sha = await self._redis.script_load(self._script)
            answers = await self._evaluate([publication for publication, _ in batch])
        for (publication, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(BrokerUnavailable(f"Redis: {answer}"))
            else:
                future.set_result(_receipt(publication, answer))

    async def _evaluate(self, publications: Sequence[Publication]) -> list[object]:
        pipeline = self._redis.pipeline(transaction=False)
        for publication in publications:
            pipeline.evalsha(self._sha, 4, *self._arguments(publication))
        answers: list[object] = await pipeline.execute(raise_on_error=False)
        return answers

    def _arguments(self, publication: Publication) -> list[str | bytes | int]:
        base = self._base(publication.app_id, publication.channel)
        arguments: list[str | bytes | int] = [
            base,
            f"{base}:log",
            f"{base}:seen:{publication.event_id}",
            f"{base}:bus",
            secrets.token_hex(4),
            publication.static_header(),
            int(publication.numbered),
            self._history.events,
            self._history.seconds,
            self._history.dedupe_s,
            self._history.idle_s,
        ]
        for frame in publication.frames:
            arguments += (frame.head, frame.tail)
        return arguments

    def _fail(self, futures: Sequence[asyncio.Future[Receipt]], reason: str) -> None:
        for future in futures:
            if not future.done():
                future.set_exception(BrokerUnavailable(reason))

    def _base(self, app_id: str, channel: str) -> str:
        return f"{self._prefix}{{{app_id}:{channel}}}"

    def _bus(self, app_id: str, channel: str) -> bytes:
        return f"{self._base(app_id, channel)}:bus".encode()


def _receipt(publication: Publication, answer: object) -> Receipt:
    match answer:
        case [1, int(sequence), bytes(epoch)]:
            return Receipt(publication.event_id, sequence, epoch.decode(), duplicate=False)
        case [0, bytes(seen)]:
            number, _, before = seen.decode().partition(":")
            return Receipt(publication.event_id, int(number), before, duplicate=True)
        case _:
            raise BrokerUnavailable("Redis answered the publish script with something else")
