"""The form of an event on the bus and in a channel's history.

A fixed binary header, then the encoded frames by view, so that a receiving node parses no JSON. The
publisher writes the part that it knows (`static_header`); the broker's script puts the number
before it and writes each frame as head .. number .. tail. Big-endian throughout:

    u8 version | u8 kind | u64 number | u64 time (ms since the epoch, the broker's clock)
    u8 n, epoch
    static header:
      u8 n, event id | u8 n, hotel's slug | u8 n, excluded socket_id | u16 n, conflation key
      u8 count, then per filter value: u8 n, key | u8 n, value
      u8 count, then per view: u8 n, name | u8 index of its frame
      u8 count of frames
    per frame: u32 n, frame (JSON text)

The number is the event's sequence, or the roster's version; other kinds have none. What is not an
event has one frame, in the view of the empty name: every subscriber gets it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final

from channels_spec.contract import Moves

VERSION: Final = 1


class Kind(IntEnum):
    """What a bus message is."""

    EVENT = 0
    NUMBERED_EVENT = 1
    """The number stands in the frames too (contract channels)."""
    CLIENT_EVENT = 2
    ROSTER = 3
    """A presence member came or went."""
    COUNT = 4
    """The channel's subscription count changed."""
    USER_STATUS = 5
    """A user came online or went offline; for those who watch that user."""
    FENCE = 6
    """What came before it, the excluded socket has heard of from the broker; goes to nobody."""


_KINDS: Final = tuple(Kind)
EVERYONE: Final = ""
"""The view of messages that are no events."""

_FIXED: Final = struct.Struct(">BBQQB")
_U16: Final = struct.Struct(">H")
_U32: Final = struct.Struct(">I")
_MAX_SHORT: Final = 255


@dataclass(frozen=True, slots=True)
class SplicedFrame:
    """A frame before it has its number: the script writes head .. number .. tail."""

    head: bytes
    tail: bytes = b""


@dataclass(frozen=True, slots=True)
class Move:
    """What an event says of the state of a thing whose moves the contract watches."""

    moves: Moves
    event: str
    hotel_slug: str
    thing: str
    to: str


@dataclass(frozen=True, slots=True)
class Stay:
    """A guest's stay, as an event that ends it names it."""

    hotel_slug: str
    booking_id: str
    guest_is_told: bool
    """Whether the guest's own channel carries the event."""


@dataclass(frozen=True, slots=True)
class Publication:
    """An event as the publisher hands it to the broker."""

    app_id: str
    channel: str
    event_id: str
    frames: tuple[SplicedFrame, ...]
    views: tuple[tuple[str, int], ...]
    """(view's name, index of its frame)."""
    hotel_slug: str = ""
    exclude: str = ""
    """The socket_id that must not get it."""
    conflation_key: str = ""
    filter_values: tuple[tuple[str, str], ...] = ()
    numbered: bool = False
    replayed: bool = True
    """Whether the event is kept in the channel's history."""
    cached: bool = False
    """Whether the channel keeps its last event for who subscribes later."""
    move: Move | None = None
    ends_stay: Stay | None = None
    """Whose access ends once the event is out."""
    event: str = ""
    """Its name."""

    @property
    def kind(self) -> Kind:
        """What the bus message is."""
        return Kind.NUMBERED_EVENT if self.numbered else Kind.EVENT

    def static_header(self) -> bytes:
        """Encode what the publisher knows of the header."""
        # Cut between characters: half of one would make the message unreadable.
        key = self.conflation_key.encode()[:65_535].decode(errors="ignore").encode()
        return b"".join(
            (
                _short(self.event_id),
                _short(self.hotel_slug),
                _short(self.exclude),
                _U16.pack(len(key)),
                key,
                bytes((len(self.filter_values),)),
                *(_short(text) for pair in self.filter_values for text in pair),
                _views_header(self.views, len(self.frames)),
            )
        )


@dataclass(frozen=True, slots=True)
class Announcement:
    """A message to every subscriber of a channel that is no event: not numbered, not kept."""

    kind: Kind
    frame: bytes
    """Whole, or what stands before a figure that the broker's script writes."""
    exclude: str = ""

    def static_header(self) -> bytes:
        """Encode what the publisher knows of the header."""
        return b"".join((b"\0\0", _short(self.exclude), b"\0\0\0", _TO_EVERYONE))

    def message(self, time_ms: int) -> bytes:
        """Encode the whole message, for a plain PUBLISH."""
        fixed = _FIXED.pack(VERSION, self.kind, 0, time_ms, 0)
        return b"".join((fixed, self.static_header(), _U32.pack(len(self.frame)), self.frame))


@dataclass(slots=True)
class BusMessage:
    """An event, or something else for a channel's subscribers, as a node receives it."""

    kind: Kind
    number: int
    time_ms: int
    epoch: str
    event_id: str
    hotel_slug: str
    exclude: str
    conflation_key: str
    filter_values: tuple[tuple[str, str], ...]
    frames: dict[str, bytes]
    """The encoded frame by view's name; views with equal content share one object."""


class MalformedMessage(ValueError):
    """What came on the bus is not a message of this format version."""


def decode(data: bytes) -> BusMessage:
    """Decode a bus message; raises `MalformedMessage`."""
    try:
        return _decode(data)
    except (struct.error, IndexError, ValueError) as error:
        raise MalformedMessage(f"truncated or damaged bus message: {error}") from None


def _decode(data: bytes) -> BusMessage:
    version, kind, number, time_ms, length = _FIXED.unpack_from(data)
    if version != VERSION:
        raise MalformedMessage(
            f"bus message of format version {version}; this node reads {VERSION}"
        )
    at = _FIXED.size + length
    epoch = data[_FIXED.size : at].decode()
    event_id, at = _read(data, at)
    hotel_slug, at = _read(data, at)
    exclude, at = _read(data, at)
    (length,) = _U16.unpack_from(data, at)
    conflation_key = data[at + 2 : at + 2 + length].decode()
    filter_values, at = _read_pairs(data, at + 2 + length)
    frames, at = _read_frames(data, at)
    if at != len(data):
        raise MalformedMessage("a bus message with something behind its end")
    return BusMessage(
        _KINDS[kind],
        number,
        time_ms,
        epoch,
        event_id,
        hotel_slug,
        exclude,
        conflation_key,
        filter_values,
        frames,
    )


def _read_pairs(data: bytes, at: int) -> tuple[tuple[tuple[str, str], ...], int]:
    count = data[at]
    at += 1
    pairs = []
    for _ in range(count):
        key, at = _read(data, at)
        value, at = _read(data, at)
        pairs.append((key, value))
    return tuple(pairs), at


def _read_frames(data: bytes, at: int) -> tuple[dict[str, bytes], int]:
    """Read the views and the frames that they share, into frames by view."""
    count = data[at]
    at += 1
    views = []
    for _ in range(count):
        name, at = _read(data, at)
        views.append((name, data[at]))
        at += 1
    count = data[at]
    at += 1
    frames = []
    for _ in range(count):
        (length,) = _U32.unpack_from(data, at)
        at += 4 + length
        frames.append(data[at - length : at])
    return {name: frames[index] for name, index in views}, at


@lru_cache(maxsize=256)
def _views_header(views: tuple[tuple[str, int], ...], frames: int) -> bytes:
    """Encode the views and the count of frames: the same few again and again."""
    parts = [bytes((len(views),))]
    for name, index in views:
        parts += (_short(name), bytes((index,)))
    return b"".join((*parts, bytes((frames,))))


def _short(text: str) -> bytes:
    encoded = text.encode()
    if len(encoded) > _MAX_SHORT:
        raise ValueError(f"a header field is longer than {_MAX_SHORT} bytes")
    return bytes((len(encoded),)) + encoded


def _read(data: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + data[at]
    if end > len(data):
        raise MalformedMessage("truncated bus message")
    return data[at + 1 : end].decode(), end


_TO_EVERYONE: Final = _views_header(((EVERYONE, 0),), 1)
