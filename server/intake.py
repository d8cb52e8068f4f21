"""The durable entrance: the stream `{prefix}publish`, kept until a node has taken each entry.

One node reads at a time, the holder of a lease whose token rises with every holder: reading and
removing are scripts that do nothing for anybody else. A new holder first takes what its predecessor
left unfinished, in order. An entry goes out under its own event id, or under one made of its id in
the stream, so that what went out before its predecessor died is known again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.broker.message import Publication
from server.cancellation import raise_if_cancelled
from server.errors import BrokerUnavailable, PublishRefused
from server.publisher import Event, Publisher
from server.rejected import Rejected

_GROUP: Final = "bellhop"
_AT_ONCE: Final = 200
_LEASE_MS: Final = 5_000
_WAIT_MS: Final = 1_000
_RETRY_S: Final = 0.25
_LONGEST_WAIT_S: Final = 1.0
_MOST_DELIVERIES: Final = 5
"""An entry that has been taken so often and is still there goes to the refused ones."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of the stream."""

    id: str
    deliveries: int
    fields: Mapping[str, bytes]


class Intake:
    """Reads the stream while this node holds the lease."""

    def __init__(
        self,
        redis: Redis,
        *,
        prefix: str,
        node_id: str,
        default_app: str,
        known_apps: frozenset[str],
        publisher: Publisher,
        rejected: Rejected,
    ) -> None:
        self._redis = redis
        self._stream = f"{prefix}publish"
        # In the stream's slot: a hash tag of the whole name.
        self._lease = f"{{{self._stream}}}:lease"
        self._node_id = node_id
        self._default_app = default_app
        self._known_apps = known_apps
        self._publisher = publisher
        self._rejected = rejected
        scripts = files("server.broker").joinpath("scripts")
        self._take_script = redis.register_script(scripts.joinpath("take.lua").read_text("utf-8"))
        self._done_script = redis.register_script(scripts.joinpath("done.lua").read_text("utf-8"))
        self._token = ""
        self.taken = 0
        """Entries published or refused, ever."""

    async def run(self) -> None:
        """Read until cancelled; then another node may at once."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_lease())
                tasks.create_task(self._read())
        finally:
            await self._release()

    # --- the lease -------------------------------------------------------------------------------

    async def _keep_lease(self) -> None:
        while True:
            with suppress(RedisError, OSError):
                await self._renew()
            raise_if_cancelled()
            await asyncio.sleep(_LEASE_MS / 4000)

    async def _renew(self) -> None:
        token = self._token or f"{self._node_id}-{secrets.token_hex(4)}"
        if await self._redis.set(self._lease, token, nx=True, px=_LEASE_MS):
            self._token = token
            return
        if await self._holder() == self._token:
            await self._redis.pexpire(self._lease, _LEASE_MS)
        else:
            self._token = ""

    async def _holder(self) -> str:
        held = await self._redis.get(self._lease)
        return held.decode() if isinstance(held, bytes) else ""

    async def _release(self) -> None:
        token, self._token = self._token, ""
        if token:
            with suppress(RedisError, OSError):
                if await self._holder() == token:
                    await self._redis.delete(self._lease)

    # --- reading ---------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            raise_if_cancelled()
            if not self._token:
                await asyncio.sleep(_RETRY_S)
                continue
            try:
                entries = await self._take()
                if not entries:
                    await self._await_more()
                    continue
                await self._publish(entries)
            except (RedisError, OSError, BrokerUnavailable) as error:
                log.warning("intake.waits", error=type(error).__name__)
                await asyncio.sleep(_RETRY_S)

    async def _take(self) -> list[_Entry]:
        answer: Any = await self._take_script(
            keys=[self._stream, self._lease], args=[self._token, _GROUP, "node", _AT_ONCE]
        )
        if answer[0] == 0:
            self._token = ""
            return []
        return [_entry(*each) for each in answer[1:]]

    async def _await_more(self) -> None:
        """Wait until something may have been added."""
        last = b"0-0"
        found: Any = await self._redis.xrevrange(self._stream, count=1)
        if found:
            return
        with suppress(RedisError):
            info: Any = await self._redis.xinfo_stream(self._stream)
            last = info["last-generated-id"]
        await self._redis.xread({self._stream: last}, count=1, block=_WAIT_MS)

    async def _publish(self, entries: list[_Entry]) -> None:
        """Publish entries in order, then remove them; what Redis did not take stays."""
        pending: list[tuple[_Entry, asyncio.Future[Any] | None]] = []
        for entry in entries:
            publication = self._encoded(entry)
            if publication is None:
                pending.append((entry, None))
                continue
            await self._let_pass(publication)
            pending.append((entry, self._publisher.publish(publication)))
        done: list[str] = []
        lost: BrokerUnavailable | None = None
        for entry, published in pending:
            if published is not None:
                try:
                    await published
                except BrokerUnavailable as error:
                    lost = lost or error
                    continue
            done.append(entry.id)
        if done:
            await self._done_script(
                keys=[self._stream, self._lease], args=[self._token, _GROUP, *done]
            )
            self.taken += len(done)
        if lost is not None:
            raise lost

    async def _let_pass(self, publication: Publication) -> None:
        """Wait while a hotel publishes too much, and with it whatever stands behind it."""
        while True:
            try:
                self._publisher.count([publication])
            except PublishRefused:
                await asyncio.sleep(min(self._publisher.wait_s(publication), _LONGEST_WAIT_S))
            else:
                return

    def _encoded(self, entry: _Entry) -> Publication | None:
        """Check an entry; what is refused is kept with the refused ones."""
        try:
            if entry.deliveries > _MOST_DELIVERIES:
                raise PublishRefused(500, f"it failed {_MOST_DELIVERIES} times")
            return self._publisher.encode(self._event(entry))
        except PublishRefused as refused:
            self._refuse(entry, refused.status, refused.reason)
        except Exception:
            log.exception("intake.failed", entry=entry.id)
            self._refuse(entry, 500, "the server failed on this entry")
        return None

    def _event(self, entry: _Entry) -> Event:
        app_id = entry.fields.get("app", b"").decode(errors="replace") or self._default_app
        if app_id not in self._known_apps:
            raise PublishRefused(404, "no such app")
        for name in ("channel", "data"):
            if name not in entry.fields:
                raise PublishRefused(400, f"the entry has no field {name}")
        try:
            data = orjson.loads(entry.fields["data"])
        except orjson.JSONDecodeError:
            raise PublishRefused(400, "the field data is not valid JSON") from None
        name = entry.fields.get("event", b"").decode(errors="replace")
        return Event(
            app_id=app_id,
            channel=entry.fields["channel"].decode(errors="replace"),
            name=name or None,
            data=data,
            exclude=entry.fields.get("socket_id", b"").decode(errors="replace"),
            event_id=f"stream-{entry.id}",
        )

    def _refuse(self, entry: _Entry, status: int, reason: str) -> None:
        self._rejected.keep(
            app_id=entry.fields.get("app", b"").decode(errors="replace") or self._default_app,
            channel=entry.fields.get("channel", b"").decode(errors="replace"),
            source="stream",
            status=status,
            reason=reason,
            body=entry.fields.get("data", b""),
        )


def _entry(entry_id: bytes, deliveries: int, flat: list[bytes]) -> _Entry:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    fields = {name.decode(errors="replace"): value for name, value in pairs}
    return _Entry(entry_id.decode(), deliveries, fields)
