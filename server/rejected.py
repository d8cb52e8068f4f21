"""The stream `rejected`: what came in through Redis and could not be accepted, with the reason.

Nothing that a backend publishes is dropped in silence: it is counted, logged and kept here,
bounded, with card numbers masked.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from channels_spec.cards import mask
from server.audit import Audit, own_event_id
from server.cancellation import raise_if_cancelled

MAX_BODY: Final = 64 * 1024
"""Bytes of a refused body that are kept."""
MAX_CHANNEL: Final = 200
"""Characters of a channel's name that are kept; a good one has no more."""
MAX_BESIDE: Final = 200
"""Characters of each other field that are kept; a good event's name has no more."""
_NOTHING: Final[Mapping[str, bytes]] = MappingProxyType({})
_MAX_REASON: Final = 1_000
_MAX_ENTRIES: Final = 10_000
_MAX_WAITING: Final = 1_000
_PIPELINE: Final = 100

log = structlog.get_logger()


class Rejected:
    """Keeps what was refused: `keep` never waits, `run` writes."""

    def __init__(self, redis: Redis, prefix: str, audit: Audit | None = None) -> None:
        self._redis = redis
        self._audit = audit or Audit()
        self._stream = f"{prefix}rejected"
        self._waiting: deque[dict[str, str]] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.counts: Counter[str] = Counter()
        """Refused events by status."""
        self.unkept = 0
        """Refused events that could not be written: too many at once, or no Redis."""

    def keep(
        self,
        *,
        app_id: str,
        channel: str,
        source: str,
        status: int,
        reason: str,
        body: bytes,
        beside: Mapping[str, bytes] = _NOTHING,
    ) -> None:
        """Count, log and keep one refused event; ``beside`` its body stood these fields."""
        self.counts[str(status)] += 1
        event_id = own_event_id(body) if len(body) <= MAX_BODY else ""
        self._audit.refused(
            "publish",
            status,
            reason,
            entrance=source,
            app=app_id,
            channel=channel,
            event_id=event_id,
        )
        reason = mask(reason)[:_MAX_REASON]
        log.warning(
            "event.rejected",
            app=app_id,
            channel=channel[:MAX_CHANNEL],
            source=source,
            status=status,
            reason=reason,
        )
        if len(self._waiting) >= _MAX_WAITING:
            self.unkept += 1
            return
        # Masked before it is cut: half a card number would not be recognized as one.
        kept = mask(body[: 2 * MAX_BODY].decode(errors="replace"))[:MAX_BODY]
        besides = {
            name: mask(value[: 2 * MAX_BESIDE].decode(errors="replace"))[:MAX_BESIDE]
            for name, value in beside.items()
        }
        complete = kept.encode() == body and len(channel) <= MAX_CHANNEL
        complete = complete and all(besides[name].encode() == beside[name] for name in beside)
        fields = {
            **besides,
            "app": app_id,
            "channel": channel[:MAX_CHANNEL],
            "source": source,
            "status": str(status),
            "reason": reason,
            "body": kept,
            "bytes": str(len(body)),
            # Whether what is kept is what came: only that may be published again.
            "complete": "1" if complete else "0",
        }
        self._waiting.append(fields)
        self._idle.clear()
        self._wake.set()

    async def written(self) -> None:
        """Wait until all that has been kept so far is written, or is known not to be."""
        await self._idle.wait()

    async def run(self) -> None:
        """Write what waits until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                pipeline = self._redis.pipeline(transaction=False)
                count = min(len(self._waiting), _PIPELINE)
                for _ in range(count):
                    fields: dict[Any, Any] = dict(self._waiting.popleft())
                    pipeline.xadd(self._stream, fields, maxlen=_MAX_ENTRIES, approximate=True)
                try:
                    await pipeline.execute()
                    raise_if_cancelled()
                except (RedisError, OSError) as error:
                    self.unkept += count
                    log.warning("rejected.not_kept", events=count, error=type(error).__name__)
            self._idle.set()
