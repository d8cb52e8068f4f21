"""Checked Redis publishes per second of the server's CPU: `python -m loadtest.publish`."""

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from redis import Redis

from loadtest.drain import Connect, DrainClient, drain_client
from loadtest.fanout import Spread
from loadtest.hotel import (
    HOTEL,
    booking_created,
    bookings_channel,
    compact,
    room_updated,
    rooms_channel,
)
from loadtest.server import RunningServer, ServerFailed, find_bellhop, serve
from loadtest.subscriber import DrainFailed

PER_CPU_S_TARGET = 10_000.0
"""Checked publishes of a room's change per second of CPU of the server's process."""
CONTRACT_US_TARGET = 60.0
"""CPU that checking, views and encoding of the booking cost beside a plain event of its size."""
_AT_ONCE = 200
_SETTINGS = {"BELLHOP_CONTRACT_MODE": "enforce", "BELLHOP_UNLISTED_CHANNELS": "pusher"}
PLAIN_CHANNEL = "loadtest"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of event: its channel, and the next body to publish there."""

    channel: str
    body: Callable[[int], bytes]


def _plain(number: int) -> bytes:
    event = {"event": "booking_created", "data": compact(booking_created(HOTEL, number)).decode()}
    return compact(event)


KINDS = {
    "room": Kind(rooms_channel(HOTEL), lambda number: compact(room_updated(HOTEL, number))),
    "booking": Kind(
        bookings_channel(HOTEL), lambda number: compact(booking_created(HOTEL, number))
    ),
    "plain": Kind(PLAIN_CHANNEL, _plain),
}


@dataclass(frozen=True, slots=True)
class Result:
    """Everything `--json` prints; microseconds of CPU of the server's process per event."""

    events: int
    rounds: int
    booking_bytes: int
    room_us: Spread
    booking_us: Spread
    plain_us: Spread
    booking_over_plain_us: Spread
    rooms_per_cpu_s: Spread
    bookings_per_cpu_s: Spread

    @property
    def meets_targets(self) -> bool:
        """True where both of the targets are met."""
        return (
            self.rooms_per_cpu_s.median >= PER_CPU_S_TARGET
            and self.booking_over_plain_us.median <= CONTRACT_US_TARGET
        )


class Publishing:
    """A backend that publishes through Redis, and a subscriber that counts what arrives."""

    def __init__(self, server: RunningServer, drain: DrainClient) -> None:
        self._server = server
        self._drain = drain
        self._redis = Redis.from_url(server.redis_url)
        self._published = dict.fromkeys(KINDS, 0)
        for name, kind in KINDS.items():
            drain.connect(Connect(name, server.port, 1, server.keys, HOTEL, channel=kind.channel))

    def round(self, name: str, events: int) -> float:
        """Publish so many and wait until they have arrived; return µs of CPU per event."""
        kind = KINDS[name]
        bodies = [kind.body(number % 10_000) for number in range(events)]
        cpu = self._server.cpu_s()
        for begin in range(0, events, _AT_ONCE):
            pipeline = self._redis.pipeline(transaction=False)
            for body in bodies[begin : begin + _AT_ONCE]:
                pipeline.publish(f"bellhop:publish:{kind.channel}", body)
            pipeline.execute()
            self._published[name] += len(bodies[begin : begin + _AT_ONCE])
            self._drain.await_frames(name, self._published[name])
        return (self._server.cpu_s() - cpu) * 1e6 / events


def measure(bellhop: str, rounds: int, events: int) -> Result:
    """Run everything: so many events of each kind in each round, the first of which warms up."""
    done: list[dict[str, float]] = []
    with ExitStack() as stack:
        server = stack.enter_context(serve(bellhop, _SETTINGS))
        drain = stack.enter_context(drain_client())
        publishing = Publishing(server, drain)
        for number in range(rounds + 1):
            measured = {name: publishing.round(name, events) for name in KINDS}
            if number:
                done.append(measured)
    return Result(
        events=events,
        rounds=rounds,
        booking_bytes=len(compact(booking_created(HOTEL, 1))),
        room_us=Spread.of([each["room"] for each in done]),
        booking_us=Spread.of([each["booking"] for each in done]),
        plain_us=Spread.of([each["plain"] for each in done]),
        booking_over_plain_us=Spread.of([each["booking"] - each["plain"] for each in done]),
        rooms_per_cpu_s=Spread.of([1e6 / each["room"] for each in done]),
        bookings_per_cpu_s=Spread.of([1e6 / each["booking"] for each in done]),
    )


def table(result: Result) -> str:
    """Lay the result out for a reader."""
    rows = (
        ("room_updated, checked", result.room_us, ""),
        (f"booking of {result.booking_bytes} bytes, two views", result.booking_us, ""),
        ("the same bytes outside the contract", result.plain_us, ""),
        (
            "check, views, encoding of the booking",
            result.booking_over_plain_us,
            f"target <= {CONTRACT_US_TARGET:.0f}",
        ),
        (
            "room_updated per second of CPU",
            result.rooms_per_cpu_s,
            f"target >= {PER_CPU_S_TARGET:.0f}",
        ),
        ("bookings per second of CPU", result.bookings_per_cpu_s, ""),
    )
    scene = f"{result.events} publishes a round, {result.rounds} rounds"
    lines = [f"{scene}: median (lowest to highest), CPU of the server's process in µs"]
    lines += [f"{name:42}{value!s:34}{target}" for name, value, target in rows]
    return "\n".join(line.rstrip() for line in lines)


def main() -> int:
    """Measure, print, and with --check exit 1 on a missed target."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.publish", description=__doc__)
    parser.add_argument("--bellhop", help="the command to measure (default: beside this Python)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--events", type=int, default=2000, help="of each kind in each round")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    given = parser.parse_args()
    try:
        result = measure(find_bellhop(given.bellhop), given.rounds, given.events)
    except (ServerFailed, DrainFailed) as failed:
        sys.exit(f"publish: {failed}")
    print(json.dumps(asdict(result), indent=2) if given.json else table(result))
    return 1 if given.check and not result.meets_targets else 0


if __name__ == "__main__":
    sys.exit(main())
