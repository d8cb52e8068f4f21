"""What a channel has carried, and whether that is all of it."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import structlog

from server.broker.keys import Keys
from server.broker.message import BusMessage, MalformedMessage, decode
from server.broker.pipe import Pipe
from server.protocol.presence import Entered, GapReason

log = structlog.get_logger()

_ALL: Final = 1_000_000
_SHARED_S: Final = 2.0
"""How long what was read of a channel serves others too."""


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
    times: tuple[int, ...] = ()
    """When each of the messages was kept, as the log orders them; none where that is not known."""

    def since(self, since_ms: int) -> Carried:
        """Return the same, with messages from a later moment on."""
        begin = bisect_left(self.times, since_ms)
        return replace(self, messages=self.messages[begin:], times=self.times[begin:])

    def as_of(self, entered: Entered) -> Carried:
        """Return the same, with the channel's state when somebody entered.

        What has come since is not missed: it was held back for whoever entered, or sent.
        """
        if self.number == entered.number or (entered.epoch and entered.epoch != self.epoch):
            return self
        return replace(self, number=entered.number, last_ms=entered.last_ms)


@dataclass(frozen=True, slots=True)
class Known:
    """What a client is known to have of a channel."""

    since_ms: int
    """Everything until then."""
    number: int = 0
    epoch: str = ""


_Decoded = dict[bytes, BusMessage]


@dataclass(frozen=True, slots=True)
class _Reading:
    """A part of a history that is read, or was lately."""

    since_ms: int
    carried: asyncio.Future[Carried]
    decoded: _Decoded
    """What it brought, and those before it: the next one brings most of that again."""


class ChannelHistory:
    """Reads the logs of channels."""

    def __init__(self, pipe: Pipe, keys: Keys, *, seconds: int, events: int) -> None:
        self._pipe = pipe
        self._keys = keys
        self.seconds = seconds
        self._events = events
        self._readings: dict[tuple[str, str], _Reading] = {}

    def since(self, app_id: str, channel: str, since_ms: int) -> asyncio.Future[Carried]:
        """Return what was carried from a moment on; may raise `BrokerUnavailable`."""
        return self._read(app_id, channel, since_ms, {})

    def _read(
        self, app_id: str, channel: str, since_ms: int, decoded: _Decoded
    ) -> asyncio.Future[Carried]:
        base = self._keys.channel(app_id, channel)
        arguments = (max(since_ms, 0), _ALL)
        read = partial(_carried, decoded)
        return self._pipe.script("history", (base, f"{base}:log"), arguments, read)

    async def before(self, app_id: str, channel: str, since_ms: int, entered: Entered) -> Carried:
        """Return what was carried from a moment on until somebody entered, and maybe more.

        All who come back to a channel at once share what was read of it, as long as it reaches to
        where they entered. May raise `BrokerUnavailable`.
        """
        key = app_id, channel
        decoded: _Decoded = {}
        while True:
            reading = self._readings.get(key)
            if reading is None or reading.since_ms > since_ms:
                decoded = decoded if reading is None else reading.decoded
                asked = self._read(app_id, channel, since_ms, decoded)
                reading = self._readings[key] = _Reading(since_ms, asked, decoded)
                loop = asyncio.get_running_loop()
                loop.call_later(_SHARED_S, self._forget, key, reading)
                try:
                    return await reading.carried
                except BaseException:
                    self._forget(key, reading)
                    raise
            carried = await reading.carried
            if carried.epoch == entered.epoch and carried.number >= entered.number:
                return carried.since(since_ms)
            # It was read before.
            decoded = reading.decoded
            self._forget(key, reading)

    def _forget(self, key: tuple[str, str], reading: _Reading) -> None:
        if self._readings.get(key) is reading:
            del self._readings[key]

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


def _carried(decoded: _Decoded, answer: object) -> Carried:
    match answer:
        case [
            int(number),
            bytes(epoch),
            int(last),
            int(length),
            int(first),
            list(found),
            list(ids),
        ]:
            messages, times = _messages(found, ids, decoded)
            return Carried(messages, number, epoch.decode(), last, length, first, times)
        case _:
            raise TypeError("expected a history")


def _messages(
    found: list[bytes], ids: list[bytes], decoded: _Decoded
) -> tuple[tuple[BusMessage, ...], tuple[int, ...]]:
    if len(decoded) > 2 * len(found):
        # What has gone out of the log need not be kept.
        decoded.clear()
    messages: list[BusMessage] = []
    times: list[int] = []
    for data, id_ in zip(found, ids, strict=True):
        message = decoded.get(data)
        if message is None:
            try:
                message = decoded[data] = decode(data)
            except MalformedMessage as error:
                log.warning("history.malformed", error=str(error))
                continue
        messages.append(message)
        times.append(int(id_.partition(b"-")[0]))
    return tuple(messages), tuple(times)
