"""The entrance of webhooks on a node: what happens is noted at once, and written to Redis after."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from contextlib import suppress
from itertools import islice
from typing import Final

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from auth.apps import App, AppRegistry, Webhook, WebhookKind
from server.cancellation import raise_if_cancelled
from server.webhooks.delivery import Deliverer
from server.webhooks.queue import NewJob, Timing, WebhookQueue, partner

_MAX_WAITING: Final = 10_000
"""Events of this node that wait to be written; more are dropped."""
_PIPELINE: Final = 100
_FLUSH_S: Final = 2.0
_RETRY_S: Final = (0.05, 1.0)

log = structlog.get_logger()


class Webhooks:
    """Tells backends what happens: `emit` never waits, `run` writes and delivers."""

    def __init__(
        self, redis: Redis, prefix: str, apps: AppRegistry, *, timing: Timing | None = None
    ) -> None:
        timing = timing or Timing()
        self._queue = WebhookQueue(redis, prefix, timing)
        self._endpoints = {app.id: _by_url(app) for app in apps if app.webhooks}
        self._waiting: deque[NewJob] = deque()
        self._wake = asyncio.Event()
        self._dropping = False
        self.counts = Counter(delivered=0, retried=0, dead=0, dropped=0)
        """Events by what became of them; one that is retried twice counts twice."""
        self._deliverer = Deliverer(self._queue, apps, timing, self.counts)

    def emit(
        self,
        app_id: str,
        kind: WebhookKind,
        channel: str,
        *,
        at_us: int = 0,
        **fields: str | int | None,
    ) -> None:
        """Note an event for every webhook of the app that wants it.

        Args:
            app_id: of the app.
            kind: of the event; its name.
            channel: where it happened.
            at_us: when, by Redis' clock; 0: now.
            fields: what the event has besides these, by Pusher's names; ``None`` is left out.

        """
        endpoints = self._endpoints.get(app_id)
        if endpoints is None:
            return
        other = partner(kind)
        event: bytes | None = None
        for url, webhooks in endpoints.items():
            wanted = any(webhook.wants(kind, channel) for webhook in webhooks)
            # What is wanted of a pair cannot be told rightly without the other half.
            if not wanted and (
                other is None or not any(webhook.wants(other, channel) for webhook in webhooks)
            ):
                continue
            if event is None:
                event = self._encoded(kind, channel, fields)
                if event is None:
                    return
            user_id = str(fields.get("user_id") or "")
            self._put(NewJob(app_id, url, kind, channel, user_id, event, at_us, wanted))

    async def run(self) -> None:
        """Write and deliver until cancelled; then write once more what waits."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write())
                tasks.create_task(self._deliverer.run())
        finally:
            await self.flush()

    async def flush(self) -> None:
        """Write what waits, if Redis takes it at once: another node may deliver it."""
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(_FLUSH_S):
                while self._waiting:
                    await self._write_some()

    def _encoded(
        self, kind: WebhookKind, channel: str, fields: dict[str, str | int | None]
    ) -> bytes | None:
        given = {name: value for name, value in fields.items() if value is not None}
        try:
            return orjson.dumps({"name": kind.value, "channel": channel, **given})
        except TypeError as error:  # such as half of a surrogate pair
            self.counts["dropped"] += 1
            log.warning("webhooks.malformed", kind=kind.value, error=type(error).__name__)
            return None

    def _put(self, job: NewJob) -> None:
        if len(self._waiting) < _MAX_WAITING:
            self._waiting.append(job)
            self._wake.set()
            return
        self.counts["dropped"] += 1
        if not self._dropping:
            self._dropping = True
            log.warning("webhooks.dropping", waiting=_MAX_WAITING)

    async def _write(self) -> None:
        retry = _RETRY_S[0]
        while True:
            await self._wake.wait()
            try:
                while self._waiting:
                    await self._write_some()
                    self._dropping = False
                    raise_if_cancelled()
            except (RedisError, OSError) as error:
                if retry == _RETRY_S[0]:
                    log.warning("webhooks.not_written", error=type(error).__name__)
                raise_if_cancelled()
                await asyncio.sleep(retry)
                retry = min(retry * 2, _RETRY_S[1])
                continue
            retry = _RETRY_S[0]
            self._wake.clear()

    async def _write_some(self) -> None:
        jobs = list(islice(self._waiting, _PIPELINE))
        self.counts["dead"] += await self._queue.add(jobs)
        # Only now: what Redis did not take stays, in its order.
        for _ in jobs:
            self._waiting.popleft()
        self._deliverer.wake()


def _by_url(app: App) -> dict[str, tuple[Webhook, ...]]:
    """Return an app's webhooks by URL: one that is named twice is told once."""
    urls = dict.fromkeys(webhook.url for webhook in app.webhooks)
    return {url: tuple(webhook for webhook in app.webhooks if webhook.url == url) for url in urls}
