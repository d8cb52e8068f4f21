"""The audit: who came in, what was published, refused and revoked; never what an event says.

Noting never waits. What is noted within a moment goes as one entry into the stream `{prefix}audit`:
its field `rows` is a JSON array, `count` says of how many rows, `node` who wrote them. `expanded`
makes of each what is told: `time_ms`, `kind`, and of the other fields those that it has, as
docs/audit.md lists them.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib.resources import files
from itertools import islice
from typing import Final

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from auth.access import Grant
from channels_spec.cards import mask
from server.broker.interface import Receipt
from server.broker.message import Publication
from server.cancellation import raise_if_cancelled
from server.protocol.rate_limit import TokenBucket

Field = str | int | dict[str, object]
Row = dict[str, Field]
Publish = tuple[float, str, str, str, str, str, str, int, str, bool | None, int, str]
"""The row of a publication, as it is written: `expanded` says what is what."""

MAX_TEXT: Final = 300
"""Characters of any text of a row."""
MAX_LISTED: Final = 20
"""Hotels of a grant, and values of a filter, that a row names."""
_LOOKED_AT: Final = 1_000
"""Characters that are masked before the text is cut: half a card number would not be known."""
_MAX_WAITING: Final = 10_000
_PACK: Final = 1_000
"""Rows of one entry."""
_GATHER_S: Final = 0.1
_FLUSH_S: Final = 2.0
_RETRY_S: Final = (0.05, 1.0)
_STRANGERS_PER_S: Final = 50
"""Refusals of whoever is not known: they must not push out all that is known."""
_UUID: Final = re.compile(
    "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}", re.ASCII
)

log = structlog.get_logger()


class Audit:
    """What waits to be written; where nothing is kept, noting does nothing."""

    def __init__(
        self,
        *,
        on: bool = False,
        publishes: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create it; ``publishes``: whether events that are accepted have rows."""
        self._on = on
        self._publishes = on and publishes
        self._clock = clock
        self._strangers = TokenBucket(_STRANGERS_PER_S, clock())
        self.waiting: deque[Row | Publish] = deque()
        self.wake = asyncio.Event()
        self.counts = Counter(kept=0, dropped=0, left_out=0)
        """Rows: written, not written, and refusals of strangers beyond so many a second."""

    def note(self, kind: str, **fields: str | int | dict[str, object] | None) -> None:
        """Note what happened; text is masked and cut, and what is empty is left out."""
        if not self._on:
            return
        row: Row = {"time_ms": int(self._clock() * 1000), "kind": kind}
        for name, value in fields.items():
            if isinstance(value, str):
                if value:
                    # Socket ids are our own, and no two are alike.
                    row[name] = value if name == "socket_id" else told(value)
            elif value is not None:
                row[name] = value
        self._put(row)

    def refused(
        self, what: str, status: int, reason: str, *, known: bool = True, **fields: str
    ) -> None:
        """Note a refusal of what was asked for; ``known``: by whoever has shown who it is."""
        if not self._on:
            return
        if not known and not self._strangers.take(self._clock()):
            self.counts["left_out"] += 1
            return
        self.note("refuse", what=what, status=status, reason=reason, **fields)

    def published(self, publication: Publication, entrance: str, receipt: Receipt | None) -> None:
        """Note what became of an event; without a receipt Redis did not take it."""
        if not self._publishes:
            return
        event_id, frame = publication.event_id, publication.frames[-1]
        duplicate, sequence, epoch = None, 0, ""
        if receipt is not None:
            duplicate, sequence, epoch = receipt.duplicate, receipt.sequence, receipt.epoch
        # A tuple costs a third of a dict, and every event comes through here.
        self._put(
            (
                self._clock(),
                publication.app_id,
                publication.hotel_slug,
                told(publication.channel),
                told(publication.event),
                # An envelope was searched for cards already, its id with it.
                event_id if publication.numbered else told_id(event_id),
                entrance,
                # Of the fullest view, which is the last.
                len(frame.head) + len(frame.tail),
                publication.exclude,
                duplicate,
                sequence,
                epoch,
            )
        )

    def _put(self, row: Row | Publish) -> None:
        waiting = self.waiting
        if len(waiting) >= _MAX_WAITING:
            self.counts["dropped"] += 1
            return
        if not waiting:
            self.wake.set()
        waiting.append(row)


class AuditStream:
    """Writes what an audit has noted; `run` owns that."""

    def __init__(self, redis: Redis, prefix: str, audit: Audit, *, node_id: str, most: int) -> None:
        """Create it; the stream keeps ``most`` rows, and hardly more."""
        self._audit = audit
        self._node_id = node_id
        self._most = most
        stream = stream_name(prefix)
        # In the stream's slot: a hash tag of the whole name.
        self._keys = [stream, f"{{{stream}}}:count"]
        source = files("server.broker").joinpath("scripts/audit.lua").read_text("utf-8")
        self._script = redis.register_script(source)

    async def run(self) -> None:
        """Write until cancelled; then write once more what waits."""
        try:
            await self._write()
        finally:
            with suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(_FLUSH_S):
                    while self._audit.waiting:
                        await self._write_some()

    async def _write(self) -> None:
        audit, retry = self._audit, _RETRY_S[0]
        while True:
            await audit.wake.wait()
            # What happens within a moment costs one call of Redis.
            await asyncio.sleep(_GATHER_S)
            try:
                while audit.waiting:
                    await self._write_some()
                    raise_if_cancelled()
            except (RedisError, OSError) as error:
                if retry == _RETRY_S[0]:
                    log.warning("audit.not_written", error=type(error).__name__)
                raise_if_cancelled()
                await asyncio.sleep(retry)
                retry = min(retry * 2, _RETRY_S[1])
                continue
            retry = _RETRY_S[0]
            audit.wake.clear()

    async def _write_some(self) -> None:
        waiting = self._audit.waiting
        rows = list(islice(waiting, _PACK))
        await self._script(
            keys=self._keys, args=[self._node_id, len(rows), _encoded(rows), self._most]
        )
        # Only now: what Redis did not take stays, in its order.
        for _ in rows:
            waiting.popleft()
        self._audit.counts["kept"] += len(rows)


def stream_name(prefix: str) -> str:
    """Return the key of the stream."""
    return f"{prefix}audit"


@lru_cache(maxsize=4096)
def told(text: str) -> str:
    """Return a peer's text as a row has it: card numbers masked, then cut."""
    return mask(text[:_LOOKED_AT])[:MAX_TEXT]


def told_id(event_id: str) -> str:
    """Return an event's id as a row has it: a UUID as it is."""
    return event_id if _UUID.fullmatch(event_id) else told(event_id)


@lru_cache(maxsize=1024)
def told_grant(grant: Grant) -> dict[str, object]:
    """Return what a subscriber may hear: the view by hotel, of other hotels, and of none."""
    hotels = {told(slug): view for slug, view in grant.views[:MAX_LISTED]}
    shown: dict[str, object] = {"hotels": hotels} if hotels else {}
    if grant.any_hotel is not None:
        shown["other_hotels"] = grant.any_hotel
        shown["not_hotels"] = sorted(map(told, grant.lost_hotels))[:MAX_LISTED]
    if grant.no_hotel is not None:
        shown["no_hotel"] = grant.no_hotel
    if grant.scope:
        shown["filter"] = {
            key: sorted(map(told, values))[:MAX_LISTED] for key, values in grant.scope
        }
    counts = (len(grant.views), len(grant.lost_hotels), *(len(each) for _, each in grant.scope))
    if max(counts) > MAX_LISTED:
        shown["incomplete"] = True
    return shown


def own_event_id(data: object) -> str:
    """Return the event id that a body carries, wherever that is; empty: none."""
    for _ in range(3):
        if isinstance(data, str | bytes):
            try:
                data = orjson.loads(data)
            except orjson.JSONDecodeError:
                return ""
        if not isinstance(data, dict):
            return ""
        meta = data.get("meta")
        if isinstance(meta, dict):
            event_id = meta.get("event_id")
            return event_id if isinstance(event_id, str) else ""
        data = data.get("data")
    return ""


def expanded(row: object) -> dict[str, object] | None:
    """Return a row of the stream as it is told; ``None`` where it is none of ours."""
    match row:
        case {"time_ms": int() as time_ms, "kind": str() as kind, **others}:
            told_ = {str(name): value for name, value in others.items()}
            return {"time_ms": time_ms, "kind": kind, **told_}
        case [
            int() | float() as at,
            app_id,
            hotel,
            channel,
            event,
            event_id,
            entrance,
            size,
            exclude,
            duplicate,
            sequence,
            epoch,
        ]:
            whose = {"app": app_id, "hotel": hotel, "channel": channel, "exclude": exclude}
            number = {"sequence": sequence, "epoch": epoch} if duplicate is not None else {}
            return {
                "time_ms": int(at * 1000),
                "kind": "publish",
                **{name: value for name, value in whose.items() if value},
                "event": event,
                "event_id": event_id,
                "entrance": entrance,
                "size": size,
                "outcome": _OUTCOMES.get(duplicate, "failed"),
                **number,
            }
        case _:
            return None


_OUTCOMES: Final[dict[object, str]] = {True: "duplicate", False: "published"}


def _encoded(rows: list[Row | Publish]) -> bytes:
    try:
        return orjson.dumps(rows)
    except TypeError:  # such as half of a surrogate pair, in a text that came escaped
        return orjson.dumps([_sound(row) for row in rows])


def _sound(row: Row | Publish) -> Row | Publish:
    if not isinstance(row, dict):
        return row
    return {
        name: value.encode(errors="replace").decode() if isinstance(value, str) else value
        for name, value in row.items()
    }
