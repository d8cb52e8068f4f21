"""Seeds, and a plain way to make more of them: where no fuzzer is installed, and in short tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

SEEDS: Final = Path(__file__).parent / "seeds"
_MAX_BYTES: Final = 20_000
_TOKENS: Final = (
    *(b"{}", b"[]", b"null", b"true", b"0", b"-1", b"1e999", b'"', b"\\", b"\n", b"\0", b"\xff"),
    *(b"private-", b"presence-", b"cache-", b"grand", b"sea-view", b".rooms", b"staff-hotel-1"),
    *(b"guest-booking-7", b"private-guest-booking.7", b"*", b"4111111111111111", b"\xe2\x80\xae"),
    *(b"meta", b"hotel_slug", b"payment", b"event_id", b"sequence", b"bellhop", b"9" * 400),
    b"\\u0000",
    b"\\ud800",
    b"[" * 900,
)


def seeds(target: str) -> dict[str, bytes]:
    """Return a target's seeds by file name, in order; findings are among them."""
    return {file.name: file.read_bytes() for file in sorted((SEEDS / target).iterdir())}


def mutants(target: str, rng: Random) -> Iterator[bytes]:
    """Return changed seeds without end."""
    known = list(seeds(target).values())
    while True:
        data = rng.choice(known)
        for _ in range(rng.choice([1, 1, 2, 3, 5])):
            data = _changed(data, known, rng)
        yield data[:_MAX_BYTES]


def _changed(data: bytes, known: list[bytes], rng: Random) -> bytes:
    at, until = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    match rng.randrange(6):
        case 0:
            return data[:at] + rng.choice(_TOKENS) + data[at:]
        case 1:
            return data[:at] + rng.choice(_TOKENS) + data[min(until, at + 30) :]
        case 2:
            return data[:at] + data[min(until, at + 20) :]
        case 3:
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        case 4:
            return data[:until] + data[at:]
        case _:
            other = rng.choice(known)
            return data[:at] + other[rng.randrange(len(other) + 1) :]
