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
import random
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from server.broker.interface import Receipt, Receiver
from server.broker.listener import Listener
from server.broker.message import MalformedMessage, Publication, decode
from server.broker.pipe import Argument, ScriptPipe
from server.errors import BrokerUnavailable

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
        self._prefix = prefix
        self._limits = (history.events, history.seconds, history.dedupe_s, history.idle_s)
        script = files("server.broker").joinpath("scripts/publish.lua").read_text("utf-8")
        self._pipe = ScriptPipe(redis.connection_pool, script)
        self._receiver: Receiver | None = None
        self._watched: dict[bytes, tuple[str, str]] = {}
        self._listener = Listener(
            redis.connection_pool,
            on_message=self._message,
            on_confirmed=self._confirmed,
        )

    @property
    def ready(self) -> bool:
        """Whether the broker answers and is listened to."""
        return self._listener.ready and self._pipe.ready

    def bring_to(self, receiver: Receiver) -> None:
        """Set where events go; before `run`."""
        self._receiver = receiver

    async def run(self) -> None:
        """Listen and publish until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listener.run())
            tasks.create_task(self._pipe.run())

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
        receipt: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        base = self._base(publication.app_id, publication.channel)
        keys: tuple[Argument, ...] = (
            base,
            f"{base}:log",
            f"{base}:seen:{publication.event_id}",
            f"{base}:bus",
        )
        frames: list[Argument] = [
            part for frame in publication.frames for part in (frame.head, frame.tail)
        ]
        arguments: tuple[Argument, ...] = (
            # An epoch must only differ from those before it on this channel; it is no secret.
            f"{random.getrandbits(32):08x}",
            publication.static_header(),
            int(publication.numbered),
            *self._limits,
            *frames,
        )
        self._pipe.call(keys, arguments).add_done_callback(
            partial(_settle, receipt, publication.event_id)
        )
        return receipt

    def _base(self, app_id: str, channel: str) -> str:
        return f"{self._prefix}{{{app_id}:{channel}}}"

    def _bus(self, app_id: str, channel: str) -> bytes:
        return f"{self._base(app_id, channel)}:bus".encode()


def _settle(
    receipt: asyncio.Future[Receipt], event_id: str, answered: asyncio.Future[object]
) -> None:
    """Turn the script's answer into a receipt for whoever still waits."""
    if receipt.done() or answered.cancelled():
        return
    error = answered.exception()
    if error is not None:
        receipt.set_exception(error)
        return
    match answered.result():
        case [1, int(sequence), bytes(epoch)]:
            receipt.set_result(Receipt(event_id, sequence, epoch.decode(), duplicate=False))
        case [0, bytes(seen)]:
            number, _, before = seen.decode().partition(":")
            receipt.set_result(Receipt(event_id, int(number), before, duplicate=True))
        case _:
            reason = "Redis answered the publish script with something else"
            receipt.set_exception(BrokerUnavailable(reason))
