"""The entrance by Redis PUBLISH: `{prefix}publish:{channel}` and `{prefix}publish@{app}:{channel}`.

Every node hears every message. One with its own event id may be taken by any node, because the
broker's script lets it through once; one without is taken by the holder of a lease, or each node
would number it.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.broker.interface import Receipt
from server.broker.keys import Keys
from server.broker.listener import Listener
from server.cancellation import raise_if_cancelled
from server.errors import PublishRefused
from server.lease import Lease
from server.publisher import MAX_MESSAGE, Event, Publisher
from server.rejected import Rejected

_MAX_UNPUBLISHED: Final = 10_000
"""Messages taken from Redis whose publication is under way."""


log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Message:
    app_id: str
    channel: str
    body: bytes


class Ingress:
    """Takes what backends publish into Redis."""

    def __init__(
        self,
        redis: Redis,
        *,
        prefix: str,
        default_app: str,
        known_apps: frozenset[str],
        publisher: Publisher,
        rejected: Rejected,
    ) -> None:
        self._prefix = f"{prefix}publish".encode()
        self._lease = Lease(redis, Keys(prefix), "ingress")
        self._default_app = default_app
        self._known_apps = known_apps
        self._publisher = publisher
        self._rejected = rejected
        self._knows_lease = False
        self._under_way = 0
        self._listener = Listener(
            redis.connection_pool,
            on_message=self._take,
            on_confirmed=lambda _name: None,
            patterns=(_escaped(self._prefix) + b":*", _escaped(self._prefix) + b"@*:*"),
        )

    @property
    def ready(self) -> bool:
        """Whether Redis is listened to, and it is known which node takes what has no id."""
        return self._listener.ready and self._knows_lease

    async def run(self) -> None:
        """Take messages until cancelled; then another node may have the lease at once."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_lease())
            tasks.create_task(self._listener.run())

    async def _keep_lease(self) -> None:
        try:
            while True:
                try:
                    await self._lease.renew()
                    self._knows_lease = True
                except (RedisError, OSError):
                    self._knows_lease = False
                raise_if_cancelled()
                await asyncio.sleep(self._lease.period_s)
        finally:
            await self._lease.release()

    def _take(self, name: bytes, body: bytes) -> None:
        """Take one message, on the listener's turn: publications keep the order of arrival."""
        message = self._addressed(name, body)
        if message is None:
            return
        if self._under_way >= _MAX_UNPUBLISHED:
            # Redis has no back-pressure towards a publisher; what cannot be held is refused aloud.
            self._refuse(message, 503, "too many events wait to be published")
            return
        try:
            event, own_id = self._event(message)
            if own_id is None and not self._lease.held:
                return
            publication = self._publisher.prepare(event)
        except PublishRefused as refused:
            self._refuse(message, refused.status, refused.reason)
            return
        except Exception:
            # A fault of ours costs this one event, not the node and everybody on it.
            log.exception("ingress.failed", app=message.app_id, channel=message.channel[:200])
            self._refuse(message, 500, "the server failed on this message")
            return
        if publication.event_id != own_id and not self._lease.held:
            # It does not go out under its own id, by which the script would know it again.
            return
        self._under_way += 1
        self._publisher.publish(publication).add_done_callback(partial(self._done, message))

    def _done(self, message: _Message, future: asyncio.Future[Receipt]) -> None:
        self._under_way -= 1
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._refuse(message, 503, str(error))

    def _addressed(self, name: bytes, body: bytes) -> _Message | None:
        """Read app and channel off a bus channel's name: `…publish:ch` or `…publish@app:ch`."""
        address, _, channel = (
            name.removeprefix(self._prefix).decode(errors="replace").partition(":")
        )
        message = _Message(address.removeprefix("@") or self._default_app, channel, body)
        if message.app_id in self._known_apps:
            return message
        self._refuse(message, 404, "no such app")
        return None

    def _event(self, message: _Message) -> tuple[Event, str | None]:
        """Return the event, and the event id that it carries, if any."""
        if len(message.body) > MAX_MESSAGE:
            raise PublishRefused(413, f"the message exceeds {MAX_MESSAGE} bytes")
        try:
            body = orjson.loads(message.body)
        except orjson.JSONDecodeError:
            raise PublishRefused(400, "the message is not valid JSON") from None
        if not isinstance(body, dict):
            raise PublishRefused(400, "the message is not a JSON object")
        name, data, exclude = _unwrapped(body)
        inner = _json_object(data)
        meta = inner.get("meta") if inner is not None else None
        own_id = meta.get("event_id") if isinstance(meta, dict) else None
        event = Event(message.app_id, message.channel, name, data, exclude)
        return event, own_id if isinstance(own_id, str) else None

    def _refuse(self, message: _Message, status: int, reason: str) -> None:
        if not self._lease.held and status != HTTPStatus.SERVICE_UNAVAILABLE:
            # Every node refuses it alike; one of them says so.
            return
        self._rejected.keep(
            app_id=message.app_id,
            channel=message.channel,
            source="redis",
            status=status,
            reason=reason,
            body=message.body,
        )


def _unwrapped(body: dict[str, object]) -> tuple[str | None, object, str]:
    """Return (name, data, excluded socket id); an envelope names itself."""
    if "event" not in body or "payload" in body:
        return None, body, ""
    name, exclude = body["event"], body.get("socket_id")
    if not isinstance(name, str):
        raise PublishRefused(400, "event must be a string")
    if exclude is not None and not isinstance(exclude, str):
        raise PublishRefused(400, "socket_id must be a string")
    return name, body.get("data"), exclude or ""


def _json_object(data: object) -> dict[str, object] | None:
    if isinstance(data, str):
        try:
            data = orjson.loads(data)
        except orjson.JSONDecodeError:
            return None
    return data if isinstance(data, dict) else None


def _escaped(literal: bytes) -> bytes:
    """Escape what a Redis pattern would take for its own."""
    return re.sub(rb"([*?\[\]\\])", rb"\\\1", literal)
