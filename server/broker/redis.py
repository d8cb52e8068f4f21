"""The broker over Redis or Valkey.

Names, after the prefix and a channel's own (see `keys`):

    {app:channel}            hash: sequence, epoch
    {app:channel}:log        stream: the history
    {app:channel}:seen:ID    string: the number of an event
    {app:channel}:cache      string: a cache channel's last event
    {app:channel}:states     hash: the last state of each thing whose moves the contract watches
    {app:channel}:bus        pub/sub channel
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, Protocol

import orjson
import structlog
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from channels_spec.pusher import CACHE_S
from server.broker.interface import Receipt, Receiver
from server.broker.keys import Keys
from server.broker.listener import Listener
from server.broker.membership import Membership
from server.broker.message import (
    Announcement,
    MalformedMessage,
    Move,
    Publication,
    decode,
)
from server.broker.pipe import Argument, Pipe
from server.broker.records import SessionRecords
from server.history import ChannelHistory

_COMMAND_TIMEOUT_S: Final = 5.0
_LOST_MARGIN_S: Final = 2.0
"""By how much Redis' clock may differ from this node's, where it is not asked."""
_SCRIPTS: Final = ("publish", "enter", "leave", "online", "beat", "history")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class History:
    """How much of a channel is remembered, and for how long."""

    seconds: int = 120
    events: int = 1000
    dedupe_s: int = 600
    session_s: int = 86_400
    """How long a lost connection is remembered."""
    idle_s: int = 86_400


def connect(url: str) -> Redis:
    """Return a client that never retries by itself: its callers know when that is safe."""
    redis = Redis.from_url(
        url,
        protocol=2,
        socket_timeout=_COMMAND_TIMEOUT_S,
        socket_connect_timeout=_COMMAND_TIMEOUT_S,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
    )
    pool = redis.connection_pool
    pool.connection_class = _lost_in_time(pool.connection_class)
    return redis


def _lost_in_time(connection: type[AbstractConnection]) -> type[AbstractConnection]:
    """Return the same kind of connection, for which a loss amid a write is a loss, no fault."""

    class Connection(connection):  # type: ignore[misc, valid-type]  # its base is a value
        """A connection whose peer may go at any moment.

        Its reader then takes it down. Whoever is about to write finds no writer, an AttributeError
        in redis-py, or one that is closed, a RuntimeError of uvloop.
        """

        async def send_packed_command(
            self, command: bytes | str | Iterable[bytes], **how: bool
        ) -> None:
            try:
                await super().send_packed_command(command, **how)
            except (AttributeError, RuntimeError):
                raise ConnectionError("Redis was lost while it was written to") from None

    return Connection


class Orders(Protocol):
    """Who obeys what every node must hear."""

    def order(self, order: bytes) -> None:
        """Obey an order (JSON)."""

    def revocation(self, asked: bytes) -> None:
        """Take what a backend wants revoked (JSON)."""

    def lost(self) -> None:
        """Learn that orders and revocations may be missed from now on."""

    async def catch_up(self) -> None:
        """Learn what may have been missed, before any event comes in."""


class RedisBroker:
    """Publishes with one script per event, and listens to the channels that the node watches."""

    def __init__(self, redis: Redis, prefix: str, history: History, node_id: str) -> None:
        self._keys = Keys(prefix)
        self._history = history
        scripts = files("server.broker").joinpath("scripts")
        self._pipe = Pipe(
            redis.connection_pool,
            {name: scripts.joinpath(f"{name}.lua").read_text("utf-8") for name in _SCRIPTS},
        )
        self.membership = Membership(self._pipe, self._keys, node_id)
        """Who is where."""
        self.records = SessionRecords(self._pipe, self._keys, node_id, kept_s=history.session_s)
        """What connections heard."""
        self.history = ChannelHistory(
            self._pipe, self._keys, seconds=history.seconds, events=history.events
        )
        """What channels carried."""
        self._receiver: Receiver | None = None
        self._orders: Orders | None = None
        self._watched: dict[bytes, tuple[str, str]] = {}
        self._control = self._keys.control.encode()
        self._revoke = self._keys.revoke.encode()
        self._listener = Listener(
            redis.connection_pool,
            on_message=self._message,
            on_confirmed=self._confirmed,
            first=(self._control, self._revoke),
            catch_up=self._catch_up,
            on_lost=self._lost,
            on_heard=self._heard,
        )

    @property
    def ready(self) -> bool:
        """Whether the broker answers and is listened to."""
        return self._listener.ready and self._pipe.ready

    @property
    def behind(self) -> bool:
        """Whether so much waits for Redis that nothing should be begun which can wait."""
        return self._pipe.behind

    def bring_to(self, receiver: Receiver, orders: Orders) -> None:
        """Set where events go, and orders to every node; before `run`."""
        self._receiver = receiver
        self._orders = orders
        receiver.heard(0.0)

    async def run(self) -> None:
        """Listen and publish until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listener.run())
            tasks.create_task(self._pipe.run())

    # --- listening -------------------------------------------------------------------------------

    def watch(self, app_id: str, channel: str) -> bool:
        """Listen to a channel; True where that is in force already, else `watched` is called."""
        name = self._keys.bus(app_id, channel).encode()
        self._watched[name] = (app_id, channel)
        return self._listener.watch(name)

    def unwatch(self, app_id: str, channel: str) -> None:
        """Stop listening to a channel."""
        name = self._keys.bus(app_id, channel).encode()
        self._watched.pop(name, None)
        self._listener.unwatch(name)

    def _message(self, name: bytes, data: bytes) -> None:
        if self._orders is not None and name in (self._control, self._revoke):
            obey = self._orders.order if name == self._control else self._orders.revocation
            obey(data)
            return
        watched = self._watched.get(name)
        if watched is None or self._receiver is None:
            return
        try:
            message = decode(data)
        except MalformedMessage as error:
            log.warning("bus.malformed", channel=watched[1], error=str(error))
            return
        self._receiver.fan_out(*watched, message)

    def _lost(self, silent_s: float) -> None:
        if self._orders is not None:
            self._orders.lost()
        if self._receiver is not None:
            since = time.time() - silent_s - _LOST_MARGIN_S
            self._receiver.lost(round(since * 1000))

    def _heard(self, until: float) -> None:
        if self._receiver is not None:
            self._receiver.heard(until)

    async def _catch_up(self) -> None:
        if self._orders is not None:
            await self._orders.catch_up()

    def _confirmed(self, name: bytes) -> None:
        watched = self._watched.get(name)
        if watched is not None and self._receiver is not None:
            self._receiver.watched(*watched)

    # --- publishing ------------------------------------------------------------------------------

    def publish(self, publication: Publication) -> asyncio.Future[Receipt]:
        """Dedupe, number, store and publish at once; may raise `BrokerUnavailable`.

        Publications of one node reach Redis in the order of these calls.
        """
        base = self._keys.channel(publication.app_id, publication.channel)
        keys: tuple[Argument, ...] = (
            base,
            f"{base}:log",
            f"{base}:seen:{publication.event_id}",
            f"{base}:bus",
            f"{base}:cache",
            f"{base}:states",
        )
        history = self._history
        arguments: list[Argument] = [
            # An epoch must only differ from those before it on this channel; it is no secret.
            f"{random.getrandbits(32):08x}",
            publication.static_header(),
            int(publication.kind),
            history.events,
            history.seconds if publication.replayed else 0,
            history.dedupe_s,
            history.idle_s,
            CACHE_S if publication.cached else 0,
            *_state(publication.move),
        ]
        for frame in publication.frames:
            arguments += (frame.head, frame.tail)
        event_id = publication.event_id
        return self._pipe.script(
            "publish", keys, arguments, lambda answer: _receipt(event_id, answer)
        )

    def tell_nodes(self, order: Mapping[str, str]) -> None:
        """Give an order to every node, if Redis answers."""
        told = self._pipe.command(("PUBLISH", self._keys.control, orjson.dumps(order)), _ignored)
        told.add_done_callback(lambda future: future.cancelled() or future.exception())

    def announce(self, app_id: str, channel: str, announcement: Announcement) -> None:
        """Tell every subscriber of a channel something that is no event, if Redis answers."""
        message = announcement.message(round(time.time() * 1000))
        told = self._pipe.command(("PUBLISH", self._keys.bus(app_id, channel), message), _ignored)
        # Nobody waits for it: like every client event it may be lost with Redis.
        told.add_done_callback(lambda future: future.cancelled() or future.exception())


def _state(move: Move | None) -> tuple[str, str]:
    return (f"{move.hotel_slug} {move.thing}", move.to) if move is not None else ("", "")


def _ignored(answer: object) -> None:
    del answer


def _receipt(event_id: str, answer: object) -> Receipt:
    match answer:
        case [1, int(sequence), bytes(epoch), bytes(state)]:
            before = state.decode()
            return Receipt(event_id, sequence, epoch.decode(), duplicate=False, state_before=before)
        case [0, bytes(seen)]:
            number, _, of_epoch = seen.decode().partition(":")
            return Receipt(event_id, int(number), of_epoch, duplicate=True)
        case _:
            raise TypeError("expected a receipt")
