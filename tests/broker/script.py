"""What `publish.lua` makes of a publication, written down a second time."""

from __future__ import annotations

import struct

from server.broker.message import Publication


def spliced(head: bytes, number: bytes, tail: bytes) -> bytes:
    """Return a frame with its number."""
    return head + number + tail


def written(
    publication: Publication, *, sequence: int = 1, epoch: str = "e", time_ms: int = 0
) -> bytes:
    """Return the bus message of a publication."""
    number = f'{sequence},\\"epoch\\":\\"{epoch}'.encode() if publication.numbered else b""
    era = epoch.encode()
    fixed = struct.pack(">BBQQB", 1, publication.kind, sequence, time_ms, len(era))
    frames = [spliced(frame.head, number, frame.tail) for frame in publication.frames]
    counted = b"".join(struct.pack(">I", len(frame)) + frame for frame in frames)
    return fixed + era + publication.static_header() + counted
