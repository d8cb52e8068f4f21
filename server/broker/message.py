"""The form of an event on the bus and in a channel's history.

A fixed binary header, then the encoded frames by view, so that a receiving node parses no JSON. The
publisher writes the part that it knows (`static_header`); the broker's script puts the number
before it and writes each frame as head .. number .. tail. Big-endian throughout:

    u8 version | u8 flags | u64 sequence | u64 time (ms since the epoch, the broker's clock)
    u8 n, epoch
    static header:
      u8 n, event id | u8 n, hotel's slug | u8 n, excluded socket_id | u16 n, conflation key
      u8 count, then per filter value: u8 n, key | u8 n, value
      u8 count, then per view: u8 n, name | u8 index of its frame
      u8 count of frames
    per frame: u32 n, frame (JSON text)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

VERSION: Final = 1
NUMBERED: Final = 1
"""Flag: the number stands in the frames too (contract channels)."""

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

    def static_header(self) -> bytes:
        """Encode what the publisher knows of the header."""
        # Cut between characters: half of one would make the message unreadable.
        conflation_key = self.conflation_key.encode()[:65_535].decode(errors="ignore").encode()
        parts = [
            _short(self.event_id),
            _short(self.hotel_slug),
            _short(self.exclude),
            _U16.pack(len(conflation_key)),
            conflation_key,
            bytes((len(self.filter_values),)),
            *(_short(text) for pair in self.filter_values for text in pair),
            bytes((len(self.views),)),
        ]
        for name, index in self.views:
            parts += (_short(name), bytes((index,)))
        parts.append(bytes((len(self.frames),)))
        return b"".join(parts)


@dataclass(slots=True)
class BusMessage:
    """An event as a node receives it."""

    sequence: int
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
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise MalformedMessage(f"truncated or damaged bus message: {error}") from None


def _decode(data: bytes) -> BusMessage:
    version, _flags, sequence, time_ms, length = _FIXED.unpack_from(data)
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
        sequence,
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
