"""The durable entrance: the stream `{prefix}publish`, kept until a node has taken each entry.

One node reads at a time, the holder of a lease: reading and removing are scripts that do nothing
for anybody else. A new holder first takes what its predecessor left unfinished, in order. An entry
goes out under its own event id, or under one made of its id in the stream, so that within the
dedupe window what went out before its predecessor died is known again.

An entry stays in the stream, and pending, until it is published, also while it waits because its
hotel publishes too much. Whatever goes wrong, the holder too begins anew with what is pending.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.backlog import Backlog, Held
from server.broker.interface import Receipt
from server.broker.keys import Keys
from server.broker.message import Publication
from server.cancellation import raise_if_cancelled
from server.encoding import Event
from server.errors import BrokerRefused, BrokerUnavailable, PublishRefused
from server.lease import Lease
from server.publisher import MAX_MESSAGE, Publisher
from server.rejected import Rejected

_NAME: Final = "publish"
_GROUP: Final = "bellhop"
_AT_ONCE: Final = 200
"""Entries that are taken together; one script removes them."""
_RETRY_S: Final = 0.25
_SUSPICIOUS: Final = 2
_MOST_TRIES: Final = 5
"""An entry that has been tried so often and is still there goes to the refused ones."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of the stream."""

    id: str
    deliveries: int
    fields: Mapping[str, bytes]

    def text(self, name: str) -> str:
        """Return a field as text; empty where there is none."""
        return self.fields.get(name, b"").decode(errors="replace")


_Ready = tuple[_Entry, Publication | None]
"""What goes out now, or was refused: then there is no publication."""


class _LeaseLost(Exception):
    """What was taken is another node's to publish."""


class Intake:
    """Reads the stream while this node holds the lease."""

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
        self._redis = redis
        self._stream = f"{prefix}{_NAME}"
        self._lease = Lease(redis, Keys(prefix), _NAME)
        self._default_app = default_app
        self._known_apps = known_apps
        self._publisher = publisher
        self._rejected = rejected
        scripts = files("server.broker").joinpath("scripts")
        self._take_script = redis.register_script(scripts.joinpath("take.lua").read_text("utf-8"))
        self._done_script = redis.register_script(scripts.joinpath("done.lua").read_text("utf-8"))
        self._last = b"0-0"
        """The stream's last id when it was read."""
        self._token = 0
        self._taken = "0"
        """The last entry that was taken under that token."""
        self._backlog = Backlog[_Entry](publisher.wait_s)
        self._refused: set[str] = set()
        """Entries that are kept with the refused ones and have yet to be removed."""

    async def run(self) -> None:
        """Read until cancelled; then another node may at once."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._lease.keep())
            tasks.create_task(self._read())

    async def _read(self) -> None:
        while True:
            raise_if_cancelled()
            # Without a way out, taking an entry would only count against it.
            if not (self._lease.held and self._publisher.ready):
                await asyncio.sleep(_RETRY_S)
                continue
            try:
                await self._turn(self._lease.token)
            except _LeaseLost:
                self._token = 0
                self._refused.clear()
            except (RedisError, OSError, BrokerUnavailable) as error:
                self._token = 0
                log.warning("intake.waits", error=type(error).__name__)
                await asyncio.sleep(_RETRY_S)

    async def _turn(self, token: int) -> None:
        """Publish what is new and what waits no longer; if there is nothing, await something."""
        if token != self._token:
            self._token, self._taken = token, "0"
            self._backlog.clear()
        entries = [] if self._backlog.full else await self._take(token)
        if entries:
            await self._finish(entries, token)
        waited = self._backlog.take(self._passes, _AT_ONCE)
        await self._pass_on([(held.entry, held.publication) for held in waited], token)
        if entries or waited:
            return
        wait_s = self._backlog.wait_s()
        if self._backlog.full:
            await asyncio.sleep(wait_s)
        else:
            # An entry that was added since is behind the id that was read with the others.
            wait_ms = max(1, math.ceil(wait_s * 1000))
            await self._redis.xread({self._stream: self._last}, count=1, block=wait_ms)

    async def _take(self, token: int) -> list[_Entry]:
        answer: Any = await self._take_script(
            keys=[self._stream, self._lease.key],
            args=[token, _GROUP, "node", _AT_ONCE, self._taken],
        )
        if answer[0] == 0:
            self._lease.lost(token)
            raise _LeaseLost
        self._last = answer[1]
        entries = [_entry(*each) for each in answer[2:]]
        if entries:
            self._taken = entries[-1].id
        return entries

    async def _finish(self, entries: list[_Entry], token: int) -> None:
        """Publish entries that need not wait and remove them, in order.

        What is there again and again is under suspicion of being what ends nodes. Then they go one
        by one, so that the culprit is the first that is left; only that one is given up.
        """
        first = entries[0]
        if first.deliveries > _MOST_TRIES:
            self._refuse(first, 500, f"no node has finished it in {_MOST_TRIES} tries")
        count = 1 if first.deliveries > _SUSPICIOUS else len(entries)
        for begin in range(0, len(entries), count):
            await self._pass_on(self._going(entries[begin : begin + count]), token)

    def _going(self, entries: list[_Entry]) -> list[_Ready]:
        """Return what goes out now or is refused; the rest waits for its hotel's wall."""
        going: list[_Ready] = []
        for entry in entries:
            publication = self._encoded(entry)
            if publication is not None:
                held = Held(entry, publication)
                # Under suspicion nothing may be left behind: the first would not be the culprit.
                if self._backlog.before(held) or not (
                    self._passes(publication) or entry.deliveries > _SUSPICIOUS
                ):
                    self._backlog.put(held)
                    continue
            going.append((entry, publication))
        return going

    def _passes(self, publication: Publication) -> bool:
        """Count an event where its hotel's wall lets it pass."""
        if self._publisher.wait_s(publication):
            return False
        self._publisher.count([publication])
        return True

    async def _pass_on(self, going: list[_Ready], token: int) -> None:
        failures: Counter[str] = Counter()
        while going:
            gone, error = await self._hand_over(going, token)
            await self._remove([entry for entry, _ in going[:gone]], token)
            going = going[gone:]
            if error is None:
                continue
            log.warning("intake.waits", error=type(error).__name__)
            if isinstance(error, BrokerRefused):
                first, _ = going[0]
                failures[first.id] += 1
                if failures[first.id] >= _MOST_TRIES:
                    self._refuse(first, 500, f"it failed {_MOST_TRIES} times: {error}")
                    continue
            await asyncio.sleep(_RETRY_S)
            while not self._publisher.ready:
                self._check_lease(token)
                await asyncio.sleep(_RETRY_S)

    async def _hand_over(
        self, going: list[_Ready], token: int
    ) -> tuple[int, BrokerUnavailable | None]:
        """Return how many are through from the first on, and why not the next one.

        It is tried again with all that is behind it, or the order would be another one; what of
        that has gone out already is known again by its id.
        """
        handed: list[asyncio.Future[Receipt] | None] = []
        last: asyncio.Future[Receipt] | None = None
        for entry, publication in going:
            self._check_lease(token)
            if publication is None or entry.id in self._refused:
                handed.append(None)
                continue
            if last is not None and last.done() and last.exception() is not None:
                break
            last = self._publisher.publish(publication, "stream")
            handed.append(last)
        for gone, published in enumerate(handed):
            if published is not None:
                try:
                    await published
                except BrokerUnavailable as error:
                    return gone, error
        return len(handed), None

    async def _remove(self, entries: list[_Entry], token: int) -> None:
        done = [entry.id for entry in entries]
        if not done:
            return
        if not self._refused.isdisjoint(done):
            await self._rejected.written()
        await self._done_script(keys=[self._stream, self._lease.key], args=[token, _GROUP, *done])
        self._refused.difference_update(done)

    def _check_lease(self, token: int) -> None:
        if not self._lease.holds(token):
            raise _LeaseLost

    def _encoded(self, entry: _Entry) -> Publication | None:
        """Check an entry; what is refused is kept with the refused ones."""
        if entry.id in self._refused:
            return None
        try:
            return self._publisher.encode(self._event(entry))
        except PublishRefused as refused:
            self._refuse(entry, refused.status, refused.reason)
        except Exception:
            # A fault of ours costs this one event, not the node and everybody on it.
            log.exception("intake.failed", entry=entry.id)
            self._refuse(entry, 500, "the server failed on this entry")
        return None

    def _event(self, entry: _Entry) -> Event:
        app_id = entry.text("app") or self._default_app
        if app_id not in self._known_apps:
            raise PublishRefused(404, "no such app")
        for name in ("channel", "data"):
            if name not in entry.fields:
                raise PublishRefused(400, f"the entry has no field {name}")
        if len(entry.fields["data"]) > MAX_MESSAGE:
            raise PublishRefused(413, f"the field data exceeds {MAX_MESSAGE} bytes")
        try:
            data = orjson.loads(entry.fields["data"])
        except orjson.JSONDecodeError:
            raise PublishRefused(400, "the field data is not valid JSON") from None
        return Event(
            app_id=app_id,
            channel=entry.text("channel"),
            name=entry.text("event") or None,
            data=data,
            exclude=entry.text("socket_id"),
            event_id=f"stream-{entry.id}",
        )

    def _refuse(self, entry: _Entry, status: int, reason: str) -> None:
        self._refused.add(entry.id)
        self._rejected.keep(
            app_id=entry.text("app") or self._default_app,
            channel=entry.text("channel"),
            source="stream",
            status=status,
            reason=reason,
            body=entry.fields.get("data", b""),
            beside={
                name: entry.fields[name] for name in ("event", "socket_id") if name in entry.fields
            },
        )


def _entry(entry_id: bytes, deliveries: int, flat: list[bytes]) -> _Entry:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    fields = {name.decode(errors="replace"): value for name, value in pairs}
    return _Entry(entry_id.decode(), deliveries, fields)
