"""The durable entrance: the stream `{prefix}publish`, kept until a node has taken each entry.

One node reads at a time, the holder of a lease: reading and removing are scripts that do nothing
for anybody else. A new holder first takes what its predecessor left unfinished, in order. An entry
goes out under its own event id, or under one made of its id in the stream, so that within the
dedupe window what went out before its predecessor died is known again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.broker.interface import Receipt
from server.broker.keys import Keys
from server.broker.message import Publication
from server.cancellation import raise_if_cancelled
from server.errors import BrokerRefused, BrokerUnavailable, PublishRefused
from server.lease import Lease
from server.publisher import MAX_MESSAGE, Event, Publisher
from server.rejected import Rejected

_NAME: Final = "publish"
_GROUP: Final = "bellhop"
_AT_ONCE: Final = 200
"""Entries that are taken together; one script removes them."""
_WAIT_MS: Final = 1_000
_RETRY_S: Final = 0.25
_LONGEST_WAIT_S: Final = 1.0
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
            token = self._lease.token
            try:
                entries = await self._take(token)
                if entries:
                    await self._finish(entries, token)
                else:
                    # An entry that was added since is behind the id that was read with the others.
                    await self._redis.xread({self._stream: self._last}, count=1, block=_WAIT_MS)
            except _LeaseLost:
                self._refused.clear()
            except (RedisError, OSError, BrokerUnavailable) as error:
                log.warning("intake.waits", error=type(error).__name__)
                await asyncio.sleep(_RETRY_S)

    async def _take(self, token: int) -> list[_Entry]:
        answer: Any = await self._take_script(
            keys=[self._stream, self._lease.key], args=[token, _GROUP, "node", _AT_ONCE]
        )
        if answer[0] == 0:
            self._lease.lost(token)
            raise _LeaseLost
        self._last = answer[1]
        return [_entry(*each) for each in answer[2:]]

    async def _finish(self, entries: list[_Entry], token: int) -> None:
        """Publish entries in order and remove them.

        What is there again and again is under suspicion of being what ends nodes. Then they go one
        by one, so that the culprit is the first that is left; only that one is given up.
        """
        first = entries[0]
        if first.deliveries > _MOST_TRIES:
            self._refuse(first, 500, f"no node has finished it in {_MOST_TRIES} tries")
        count = 1 if first.deliveries > _SUSPICIOUS else len(entries)
        for begin in range(0, len(entries), count):
            await self._pass_on(entries[begin : begin + count], token)

    async def _pass_on(self, entries: list[_Entry], token: int) -> None:
        failures: Counter[str] = Counter()
        while entries:
            gone, error = await self._hand_over(entries, token)
            await self._remove(entries[:gone], token)
            entries = entries[gone:]
            if error is None:
                continue
            log.warning("intake.waits", error=type(error).__name__)
            if isinstance(error, BrokerRefused):
                failures[entries[0].id] += 1
                if failures[entries[0].id] >= _MOST_TRIES:
                    self._refuse(entries[0], 500, f"it failed {_MOST_TRIES} times: {error}")
                    continue
            await asyncio.sleep(_RETRY_S)
            while not self._publisher.ready:
                self._check_lease(token)
                await asyncio.sleep(_RETRY_S)

    async def _hand_over(
        self, entries: list[_Entry], token: int
    ) -> tuple[int, BrokerUnavailable | None]:
        """Return how many are through from the first on, and why not the next one.

        It is tried again with all that is behind it, or the order would be another one; what of
        that has gone out already is known again by its id.
        """
        handed: list[asyncio.Future[Receipt] | None] = []
        last: asyncio.Future[Receipt] | None = None
        for entry in entries:
            self._check_lease(token)
            publication = self._encoded(entry)
            if publication is not None:
                await self._let_pass(publication, token)
                if last is not None and last.done() and last.exception() is not None:
                    break
                last = self._publisher.publish(publication, "stream")
            handed.append(last if publication is not None else None)
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

    async def _let_pass(self, publication: Publication, token: int) -> None:
        """Wait while a hotel publishes too much, and with it whatever stands behind it."""
        while wait := self._publisher.wait_s(publication):
            await asyncio.sleep(min(wait, _LONGEST_WAIT_S))
            self._check_lease(token)
        self._publisher.count([publication])

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
