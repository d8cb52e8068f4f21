"""The audit, read: rows in the order in which they happened, whoever wrote them."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import orjson
from redis.asyncio import Redis

from server.audit import expanded, stream_name, told, told_id

_PAGE: Final = 8
"""Entries that are read at once; each may have a thousand rows."""
_SKEW_MS: Final = 2_000
"""How much later than what it tells an entry comes: it was gathered, and clocks differ."""

AuditRow = dict[str, Any]


async def audit_rows(redis: Redis, prefix: str, since_ms: int = 0) -> AsyncIterator[AuditRow]:
    """Give the rows from a moment on that are there now, oldest first.

    Nodes write at different moments what happened at the same one: a few seconds of rows are held
    back and put in order.
    """
    name = stream_name(prefix)
    newest: Any = await redis.xrevrange(name, count=1)
    after = str(max(since_ms - _SKEW_MS, 0))
    held: list[tuple[int, int, AuditRow]] = []
    count = 0
    while newest:
        found: Any = await redis.xrange(name, after, newest[0][0], _PAGE)
        if not found:
            break
        for entry_id, fields in found:
            for row in _rows(fields):
                if row["time_ms"] >= since_ms:
                    count += 1
                    heapq.heappush(held, (row["time_ms"], count, row))
            written_ms = int(entry_id.partition(b"-")[0])
            while held and held[0][0] < written_ms - _SKEW_MS:
                yield heapq.heappop(held)[2]
        after = f"({found[-1][0].decode()}"
    while held:
        yield heapq.heappop(held)[2]


def matches(row: AuditRow, wanted: Mapping[str, str | None]) -> bool:
    """Whether a row has these values; ``None`` is any. They are told as rows tell them."""
    return all(
        value is None or row.get(name) == (told_id(value) if name == "event_id" else told(value))
        for name, value in wanted.items()
    )


def _rows(fields: Mapping[bytes, bytes]) -> list[AuditRow]:
    """Return an entry's rows with their node; what is none of ours is left out."""
    try:
        rows = orjson.loads(fields.get(b"rows", b""))
    except orjson.JSONDecodeError:
        return []
    node = fields.get(b"node", b"").decode(errors="replace")
    return [
        {"time_ms": row["time_ms"], "node": node, **row}
        for each in (rows if isinstance(rows, list) else ())
        if (row := expanded(each)) is not None
    ]
