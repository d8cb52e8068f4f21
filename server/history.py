"""What a channel has carried, and whether that is all of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import structlog

from server.broker.keys import Keys
from server.broker.message import BusMessage, MalformedMessage, decode
from server.broker.pipe import Pipe
from server.protocol.presence import GapReason

log = structlog.get_logger()

_ALL: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Carried:
    """A part of a channel's history, and the state of the channel then."""

    messages: tuple[BusMessage, ...]
    number: int
    """The sequence of the last event; 0 where there was none."""
    epoch: str
    last_ms: int
    """When the last kept event was published."""
    length: int
    """Events in the log."""
    first_ms: int
    """When the first of them was published."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a client is known to have of a channel."""

    since_ms: int
    """Everything until then."""
    number: int = 0
    epoch: str = ""


class ChannelHistory:
    """Reads the logs of channels."""

    def __init__(self, pipe: Pipe, keys: Keys, *, seconds: int, events: int) -> None:
        self._pipe = pipe
        self._keys = keys
        self.seconds = seconds
        self._events = events

    def since(self, app_id: str, channel: str, since_ms: int) -> asyncio.Future[Carried]:
        """Return what was carried from a moment on; may raise `BrokerUnavailable`."""
        base = self._keys.channel(app_id, channel)
        arguments = (max(since_ms, 0), _ALL)
        return self._pipe.script("history", (base, f"{base}:log"), arguments, _carried)

    def gap_by_time(self, known: Known, carried: Carried, now_ms: int) -> GapReason | None:
        """Say why a client that has all until a moment may miss something, if it may."""
        if carried.number == 0:
            return GapReason.HISTORY_LOST if known.number else None
        if known.epoch and known.epoch != carried.epoch:
            return GapReason.EPOCH_CHANGED
        if carried.last_ms <= known.since_ms or carried.number == known.number:
            return None
        if known.since_ms < now_ms - self.seconds * 1000:
            return GapReason.WINDOW_EXCEEDED
        if carried.length == 0:
            return GapReason.HISTORY_LOST
        if carried.first_ms > known.since_ms and carried.length >= self._events:
            return GapReason.WINDOW_EXCEEDED
        return None

    def gap_by_number(self, epoch: str, number: int, carried: Carried) -> GapReason | None:
        """Say why a client that has all up to a number may miss something, if it may."""
        if carried.number == 0:
            return GapReason.HISTORY_LOST
        if epoch != carried.epoch:
            return GapReason.EPOCH_CHANGED
        if carried.number <= number:
            return None
        first = carried.messages[0].number if carried.messages else carried.number + 1
        return GapReason.WINDOW_EXCEEDED if first > number + 1 else None


def _carried(answer: object) -> Carried:
    match answer:
        case [int(number), bytes(epoch), int(last), int(length), int(first), list(found)]:
            return Carried(_decoded(found), number, epoch.decode(), last, length, first)
        case _:
            raise TypeError("expected a history")


def _decoded(found: list[bytes]) -> tuple[BusMessage, ...]:
    messages: list[BusMessage] = []
    for data in found:
        try:
            messages.append(decode(data))
        except MalformedMessage as error:
            log.warning("history.malformed", error=str(error))
    return tuple(messages)
