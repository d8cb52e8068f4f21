"""The entrance by Redis PUBLISH: `{prefix}publish:{channel}` and `{prefix}publish@{app}:{channel}`.

Every node hears every message. One with its own event id may be taken by any node, because the
broker's script lets it through once. One without is published, and what is wrong is refused, by the
holder of a lease; the others keep it until they know that this is done (see `places`), so that
nothing is lost when the holder dies. Whoever takes over begins with what it has kept.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.broker.keys import Keys
from server.broker.listener import Listener
from server.cancellation import raise_if_cancelled
from server.encoding import Event
from server.errors import PublishRefused
from server.handover import Handover
from server.lease import Lease
from server.places import Places, new_mark
from server.publisher import MAX_MESSAGE, Publisher
from server.rejected import Rejected

_MAX_UNPUBLISHED: Final = 10_000
"""Messages taken from Redis whose publication is under way."""
_NAME: Final = "ingress"
_AT_ONCE: Final = 200
_SOON_S: Final = 0.05
_MARK_S: Final = 0.25
_LEAVE_S: Final = 2.0
_MOST_MARKS: Final = 64


log = structlog.get_logger()


class Others(Protocol):
    """What this node knows of the others."""

    @property
    def known(self) -> bool:
        """Whether it knows them."""

    def has_others(self) -> bool:
        """Whether another lives."""


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
        others: Others,
    ) -> None:
        self._redis = redis
        self._prefix = f"{prefix}publish".encode()
        self._lease = Lease(redis, Keys(prefix), _NAME)
        self._default_app = default_app
        self._known_apps = known_apps
        self._publisher = publisher
        self._rejected = rejected
        self._knows_lease = False
        self._others = others
        self._places = Places()
        self._marks = f"{prefix}{_NAME}".encode()
        self._sent = ""
        """The mark that was sent and has not come back yet."""
        self._sent_at = 0.0
        self._hears = False
        """Whether a mark of ours has come back since anything may have been missed."""
        self._live = False
        """Whether what comes is published at once: nothing kept stands before it."""
        self._heard_mark = asyncio.Event()
        self._handover = Handover(publisher, self._refuse)
        self._own_marks: deque[tuple[str, int]] = deque(maxlen=_MOST_MARKS)
        """Marks that came back while live, and how many messages had been handed over."""
        self._settled = ""
        self._missed = False
        """Whether messages may have been missed that another node has heard."""
        self._company = False
        """Whether there was another node then."""
        self._leaving = False
        self._listener = Listener(
            redis.connection_pool,
            on_message=self._take,
            on_confirmed=lambda _name: None,
            patterns=(_escaped(self._prefix) + b":*", _escaped(self._prefix) + b"@*:*"),
            first=(self._marks,),
            on_lost=lambda _silent_s: self._deaf(),
        )

    @property
    def ready(self) -> bool:
        """Whether Redis is listened to, and it is known which node takes what has no id."""
        return self._listener.ready and self._knows_lease

    @property
    def forgotten(self) -> int:
        """Messages that were not kept until they were known to be settled."""
        return self._places.forgotten

    async def run(self) -> None:
        """Take messages until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_lease())
            tasks.create_task(self._catch_up())
            tasks.create_task(self._listener.run())
            tasks.create_task(self._handover.run())

    async def leave(self) -> None:
        """Number nothing more, finish what is under way, and let another node go on at once."""
        self._leaving, self._live = True, False
        handed = self._handover.handed
        with suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                while self._handover.settled < handed:  # noqa: ASYNC110  it happens once in a node's life
                    await asyncio.sleep(_SOON_S)
        await self._lease.release()

    # --- the lease and its marks -----------------------------------------------------------------

    async def _keep_lease(self) -> None:
        while True:
            try:
                wait = await self._turn()
            except (RedisError, OSError):
                self._knows_lease, wait = False, self._lease.period_s
            raise_if_cancelled()
            await asyncio.sleep(wait)

    async def _turn(self) -> float:
        """Keep the lease, or try to have it; return after how many seconds to do so again."""
        if self._missed:
            # A heartbeat tells late of a new node; who listens, Redis knows at once.
            self._company = self._others.has_others() or await self._is_heard_by_others()
            if self._company:
                await self._lease.release()
            self._missed = False
        if self._leaving:
            return self._lease.period_s
        if not (self._listener.ready or self._lease.held):
            return _SOON_S
        # Who may have missed something lets those go first who have not.
        alone = self._others.known and not self._others.has_others() and not self._company
        hesitate_s = 0.0 if self._places.complete or alone else 2 * self._lease.period_s
        held = await self._lease.renew(hesitate_s=hesitate_s)
        self._knows_lease = True
        if held and self._listener.ready:
            await self._send_mark()
        if held:
            self._company = False
            return _MARK_S
        return _SOON_S if self._lease.vacant else self._lease.period_s

    async def _is_heard_by_others(self) -> bool:
        ((_, listening),) = await self._redis.pubsub_numsub(self._marks)
        return bool(listening > int(self._listener.ready))

    async def _send_mark(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._sent:
            if now - self._sent_at > 3 * self._lease.period_s:
                # Redis takes what we say, and we do not hear it.
                self._deaf()
            return
        settled = self._handover.settled
        while self._own_marks and self._own_marks[0][1] <= settled:
            self._settled, _ = self._own_marks.popleft()
        self._sent, self._sent_at = new_mark(), now
        try:
            await self._redis.publish(self._marks, f"{self._sent} {self._settled}")
        except (RedisError, OSError):
            self._sent = ""
            raise

    def _marked(self, body: bytes) -> None:
        mark, _, settled = body.decode(errors="replace").partition(" ")
        self._places.mark(mark, settled)
        if mark != self._sent:
            return
        self._sent, self._hears = "", True
        if self._live:
            self._own_marks.append((mark, self._handover.handed))
        else:
            self._heard_mark.set()

    def _deaf(self) -> None:
        """Learn that messages may have been missed. Another node may have heard them."""
        self._places.deaf()
        self._own_marks.clear()
        self._sent = self._settled = ""
        self._hears = self._live = False
        self._missed = True

    async def _catch_up(self) -> None:
        """Publish what was kept, in order of its arrival, whenever this node takes over."""
        while True:
            await self._heard_mark.wait()
            self._heard_mark.clear()
            if not self._live:
                log.info("ingress.taken_over", messages=len(self._places))
            while not self._live and self._hears and self._lease.held and not self._leaving:
                for _ in range(_AT_ONCE):
                    if self._handover.under_way >= _MAX_UNPUBLISHED // 2:
                        break
                    heard = self._places.take()
                    if heard is None:
                        self._live = self._places.complete = True
                        break
                    self._try(*heard, final=True)
                await asyncio.sleep(0 if self._handover.under_way < _AT_ONCE else _SOON_S / 10)

    # --- messages --------------------------------------------------------------------------------

    def _take(self, name: bytes, body: bytes) -> None:
        """Take one message, on the listener's turn: publications keep the order of arrival."""
        if name == self._marks:
            self._marked(body)
            return
        places = self._places
        places.count()
        if self._live and self._lease.held:
            self._try(name, body, places.event_id(), final=True)
            return
        self._live = False
        if not self._try(name, body, "", final=False):
            places.keep(name, body)

    def _try(self, name: bytes, body: bytes, event_id: str, *, final: bool) -> bool:
        """Publish a message, or refuse it aloud.

        Not ``final``, it goes out only under its own event id, by which the script knows it again;
        for anything else the answer is False.
        """
        address, _, channel = (
            name.removeprefix(self._prefix).decode(errors="replace").partition(":")
        )
        message = _Message(address.removeprefix("@") or self._default_app, channel, body)
        try:
            if message.app_id not in self._known_apps:
                raise PublishRefused(404, "no such app")
            event, own_id = self._event(message, event_id)
            if own_id is None and not final:
                return False
            if self._handover.under_way >= _MAX_UNPUBLISHED:
                # Redis has no back-pressure towards a publisher; what cannot be held is refused.
                raise PublishRefused(503, "too many events wait to be published")
            publication = self._publisher.prepare(event)
            if publication.event_id != own_id and not final:
                return False
            self._handover.put(message, publication)
        except PublishRefused as refused:
            if final:
                self._refuse(message, refused.status, refused.reason)
            return final
        except Exception:
            if final:
                # A fault of ours costs this one event, not the node and everybody on it.
                log.exception("ingress.failed", app=message.app_id, channel=channel[:200])
                self._refuse(message, 500, "the server failed on this message")
            return final
        return True

    def _event(self, message: _Message, event_id: str) -> tuple[Event, str | None]:
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
        event = Event(message.app_id, message.channel, name, data, exclude, event_id)
        return event, own_id if isinstance(own_id, str) else None

    def _refuse(self, message: _Message, status: int, reason: str) -> None:
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
