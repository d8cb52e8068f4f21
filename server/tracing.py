"""Why an event did or did not arrive: told from what is kept, and no further.

Sources are the audit, the channel's history, the ids that were seen on it, and the stream of
refused events. What none of them says is not known, and is said to be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from redis.asyncio import Redis

from channels_spec.cards import mask
from server.audit import told, told_id
from server.audit_reading import AuditRow, audit_rows
from server.broker.keys import Keys
from server.broker.message import BusMessage, MalformedMessage, decode
from server.kept_streams import KeptStream
from server.tracing_person import Person

MAX_FOUND: Final = 100
"""Channels, and rows of one kind, that a trace tells of."""
_PAGE: Final = 100


@dataclass(slots=True)
class ChannelTrace:
    """What is known of the event on one channel."""

    app: str
    channel: str
    accepted: AuditRow | None = None
    """The row of its publication."""
    failed: list[AuditRow] = field(default_factory=list)
    duplicates: list[AuditRow] = field(default_factory=list)
    refused: list[AuditRow] = field(default_factory=list)
    number: tuple[int, str] | None = None
    """Sequence and epoch, as the history, the ids seen, or a row says them."""
    kept: BusMessage | None = None
    """The event in the channel's history."""
    sockets: dict[str, int] = field(default_factory=dict)
    """Node → sockets that are subscribed now."""
    person: Person | None = None

    @property
    def time_ms(self) -> int | None:
        """When it was published, if that is known."""
        if self.accepted is not None:
            return int(self.accepted["time_ms"])
        return self.kept.time_ms if self.kept is not None else None

    @property
    def hotel(self) -> str:
        """The event's hotel, where it has one."""
        if self.kept is not None:
            return self.kept.hotel_slug
        return str(self.accepted.get("hotel", "")) if self.accepted is not None else ""


@dataclass(slots=True)
class Trace:
    """Everything that is known of an event."""

    event_id: str
    channels: list[ChannelTrace]
    refused: list[AuditRow]
    """Refusals that name no channel that the event was published on."""
    rejected: list[dict[str, str]]
    """Entries of the stream of refused events whose body names the event."""
    audit_since_ms: int | None
    """How far the audit goes back; ``None``: there is none."""


class Tracing:
    """Looks an event up."""

    def __init__(self, redis: Redis, prefix: str, app_id: str) -> None:
        """Create it; ``app_id`` is whose a channel is that is only named."""
        self._redis = redis
        self._prefix = prefix
        self._keys = Keys(prefix)
        self._app_id = app_id

    async def newest(self, channel: str) -> str | None:
        """Return the id of the last event in a channel's history."""
        log = f"{self._keys.channel(self._app_id, channel)}:log"
        found: Any = await self._redis.xrevrange(log, count=1)
        message = _message(found[0][1]) if found else None
        return message.event_id if message is not None else None

    async def trace(self, event_id: str, channel: str | None, sub: str | None) -> Trace:
        """Find out what is known of an event, on one channel or on all that the audit names."""
        rows: list[AuditRow] = []
        since: int | None = None
        async for row in audit_rows(self._redis, self._prefix):
            since = row["time_ms"] if since is None else since
            of_event = row.get("event_id") == told_id(event_id)
            if of_event and len(rows) < MAX_FOUND and row["kind"] in {"publish", "refuse"}:
                rows.append(row)
        found = _by_channel(rows, channel)
        if channel is not None:
            found.setdefault((self._app_id, channel), ChannelTrace(self._app_id, channel))
        for each in found.values():
            await self._look_at(each, event_id)
        known = [each for each in found.values() if each.refused or each.number or each.time_ms]
        if sub is not None:
            await self._look_for(sub, known, since)
        names = {each.channel for each in found.values()}
        others = [
            row for row in rows if row["kind"] == "refuse" and row.get("channel") not in names
        ]
        rejected = await self._rejected(event_id, channel)
        return Trace(event_id, known, others if channel is None else [], rejected, since)

    async def _look_at(self, found: ChannelTrace, event_id: str) -> None:
        """Look at the channel itself."""
        base = self._keys.channel(found.app, found.channel)
        seen: Any = await self._redis.get(f"{base}:seen:{event_id}")
        found.kept = await self._kept(f"{base}:log", event_id)
        row = found.accepted or next(iter(found.duplicates), None)
        if found.kept is not None:
            found.number = (found.kept.number, found.kept.epoch)
        elif isinstance(seen, bytes):
            sequence, _, epoch = seen.decode(errors="replace").partition(":")
            found.number = (int(sequence), epoch)
        elif row is not None:
            found.number = (int(row["sequence"]), str(row["epoch"]))
        sockets: Any = await self._redis.hgetall(f"{base}:sockets")
        found.sockets = {node.decode(): int(count) for node, count in sockets.items()}

    async def _kept(self, log: str, event_id: str) -> BusMessage | None:
        after = "-"
        while True:
            entries: Any = await self._redis.xrange(log, after, count=_PAGE)
            for _, fields in entries:
                message = _message(fields)
                if message is not None and message.event_id == event_id:
                    return message
            if len(entries) < _PAGE:
                return None
            after = f"({entries[-1][0].decode()}"

    async def _look_for(self, sub: str, found: list[ChannelTrace], since: int | None) -> None:
        """Follow a person through the audit, up to the moment of the event and a little on."""
        for each in found:
            if each.time_ms is not None:
                each.person = Person(told(sub), told(each.channel), each.app, each.time_ms, since)
        people = [each.person for each in found if each.person is not None]
        if not people:
            return
        async for row in audit_rows(self._redis, self._prefix):
            for person in people:
                person.take(row)

    async def _rejected(self, event_id: str, channel: str | None) -> list[dict[str, str]]:
        stream = KeptStream(self._redis, f"{self._prefix}rejected", "bellhop rejected list")
        found: list[dict[str, str]] = []
        # Bodies rest there with card numbers masked.
        looked_for = mask(event_id)
        async for entry in stream.oldest_first():
            if looked_for not in entry.fields.get("body", ""):
                continue
            if channel in {None, entry.fields.get("channel")} and len(found) < MAX_FOUND:
                names = ("app", "channel", "source", "status", "reason")
                told_ = {name: entry.fields.get(name, "") for name in names}
                found.append({"id": entry.id, "time": entry.time, **told_})
        return found


def _by_channel(rows: list[AuditRow], channel: str | None) -> dict[tuple[str, str], ChannelTrace]:
    found: dict[tuple[str, str], ChannelTrace] = {}
    for row in rows:
        key = (str(row.get("app", "")), str(row.get("channel", "")))
        if channel is not None and key[1] != told(channel):
            continue
        if row["kind"] == "publish":
            each = found.setdefault(key, ChannelTrace(*key))
            match row["outcome"]:
                case "published":
                    each.accepted = row
                case "duplicate":
                    each.duplicates.append(row)
                case _:
                    each.failed.append(row)
    for row in rows:
        key = (str(row.get("app", "")), str(row.get("channel", "")))
        if row["kind"] == "refuse" and (key in found or channel == key[1]):
            found.setdefault(key, ChannelTrace(*key)).refused.append(row)
    return found


def _message(fields: Mapping[bytes, bytes]) -> BusMessage | None:
    try:
        return decode(fields.get(b"m", b""))
    except MalformedMessage:
        return None
