"""CPU per delivered message beside the floor of a bare `send` loop: `python -m loadtest.fanout`."""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from statistics import median

from redis import Redis

from loadtest.drain import Connect, DrainClient, drain_client
from loadtest.floor import Floor, FloorFailed, floor
from loadtest.hotel import HOTEL, QUIET_HOTEL, compact, room_updated, rooms_channel
from loadtest.server import (
    RunningServer,
    ServerFailed,
    find_bellhop,
    raise_open_files,
    serve,
)
from loadtest.subscriber import DrainFailed

BURST = 16
RATIO_TARGET = 1.15
CHEAPER_TARGET = 5.0


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure over all rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Sum up the rounds."""
        return cls(median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:8.3f}  ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU of one round of one kind, in microseconds, and how long a tick took, in milliseconds."""

    per_delivery_us: float
    broker_per_event_us: float
    tick_ms: float


@dataclass(frozen=True, slots=True)
class Result:
    """Everything `--json` prints; microseconds of CPU per delivery unless the name says more."""

    subscribers: int
    frame_bytes: int
    rounds: int
    floor_single: Spread
    floor_joined: Spread
    server_single: Spread
    server_burst: Spread
    publish_single_us_per_event: Spread
    publish_burst_us_per_event: Spread
    broker_single_us_per_event: Spread
    broker_burst_us_per_event: Spread
    tick_single_ms: Spread
    tick_burst_ms: Spread
    ratio_single: Spread
    ratio_single_without_publish: Spread
    cheaper_than_own_single: Spread
    cheaper_than_floor_single: Spread

    @property
    def meets_targets(self) -> bool:
        """True where both of the targets are met."""
        cheaper = min(self.cheaper_than_own_single.median, self.cheaper_than_floor_single.median)
        return self.ratio_single.median <= RATIO_TARGET and cheaper >= CHEAPER_TARGET


class Fanout:
    """One server and one floor, each with as many subscribers in the same drain process."""

    def __init__(
        self, server: RunningServer, bare: Floor, drain: DrainClient, subscribers: int
    ) -> None:
        self._server = server
        self._floor = bare
        self._drain = drain
        self._count = {HOTEL: subscribers, QUIET_HOTEL: 1, "floor": subscribers}
        self._frames_each = dict.fromkeys(self._count, 0)
        self._redis = Redis.from_url(server.redis_url)
        self._note = ""

    def connect(self, frame_bytes: int) -> bytes:
        """Open all subscribers; answer a frame of the asked size just as the server sent it."""
        for group, count in self._count.items():
            if group == "floor":
                drain_side = Connect(group, self._floor.port, count)
            else:
                drain_side = Connect(group, self._server.port, count, self._server.keys, group)
            self._drain.connect(drain_side)
        self._floor.wait_connected()
        self._publish(HOTEL, 1)
        self._note = "x" * max(0, frame_bytes - len(self._last_frame()))
        self._publish(HOTEL, 1)
        return self._last_frame()

    def server_round(self, hotel: str, ticks: int, burst: int) -> Cost:
        """Publish `burst` events as one pipeline, wait for their arrival; `ticks` times."""
        server = self._server
        cpu, broker, began = server.cpu_s(), server.broker_cpu_s(), time.perf_counter()
        for _ in range(ticks):
            self._publish(hotel, burst)
        spent = server.cpu_s() - cpu
        broker_spent = server.broker_cpu_s() - broker
        elapsed = time.perf_counter() - began
        self._verify(hotel)
        events = ticks * burst
        return Cost(
            spent * 1e6 / (events * self._count[hotel]),
            broker_spent * 1e6 / events,
            elapsed * 1e3 / ticks,
        )

    def floor_round(self, frame: bytes, ticks: int, burst: int) -> float:
        """Send `burst` frames as one piece, wait for their arrival; answer CPU µs per frame."""
        spent = 0.0
        for _ in range(ticks):
            spent += self._floor.send(frame * burst)
            self._await("floor", burst)
        self._verify("floor")
        return spent * 1e6 / (ticks * burst * self._count["floor"])

    def _publish(self, hotel: str, burst: int) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for number in range(burst):
            body = compact(room_updated(hotel, 100 + number, self._note))
            pipeline.publish(f"bellhop:publish:{rooms_channel(hotel)}", body)
        pipeline.execute()
        self._await(hotel, burst)

    def _await(self, group: str, frames: int) -> None:
        self._frames_each[group] += frames
        self._drain.await_frames(group, self._frames_each[group] * self._count[group])

    def _verify(self, group: str) -> None:
        self._drain.report(group, self._frames_each[group])

    def _last_frame(self) -> bytes:
        return self._drain.report(HOTEL, self._frames_each[HOTEL]).last_frame


@dataclass(frozen=True, slots=True)
class Round:
    """One pass over all kinds, close together in time so that their ratios are fair."""

    floor_single: float
    floor_joined: float
    single: Cost
    burst: Cost
    publish_single: Cost
    publish_burst: Cost


def _rounds(bench: Fanout, frame: bytes, rounds: int, ticks: int) -> Iterator[Round]:
    burst_ticks = max(1, ticks // 3)
    for number in range(rounds + 1):
        measured = Round(
            floor_single=bench.floor_round(frame, ticks, 1),
            single=bench.server_round(HOTEL, ticks, 1),
            floor_joined=bench.floor_round(frame, burst_ticks, BURST),
            burst=bench.server_round(HOTEL, burst_ticks, BURST),
            publish_single=bench.server_round(QUIET_HOTEL, ticks * 3, 1),
            publish_burst=bench.server_round(QUIET_HOTEL, ticks, BURST),
        )
        if number:  # the first one warms up
            yield measured


def measure(bellhop: str, subscribers: int, frame_bytes: int, rounds: int, ticks: int) -> Result:
    """Run everything; `ticks` of one event in each round, a third as many of 16."""
    with ExitStack() as stack:
        # The children come and go in order: subscribers first, so that the server has nobody to
        # drain when it is told to stop.
        server = stack.enter_context(serve(bellhop))
        bare = stack.enter_context(floor(subscribers))
        drain = stack.enter_context(drain_client())
        bench = Fanout(server, bare, drain, subscribers)
        frame = bench.connect(frame_bytes)
        done = list(_rounds(bench, frame, rounds, ticks))
    return Result(
        subscribers=subscribers,
        frame_bytes=len(frame),
        rounds=rounds,
        floor_single=Spread.of([r.floor_single for r in done]),
        floor_joined=Spread.of([r.floor_joined for r in done]),
        server_single=Spread.of([r.single.per_delivery_us for r in done]),
        server_burst=Spread.of([r.burst.per_delivery_us for r in done]),
        publish_single_us_per_event=Spread.of([r.publish_single.per_delivery_us for r in done]),
        publish_burst_us_per_event=Spread.of([r.publish_burst.per_delivery_us for r in done]),
        broker_single_us_per_event=Spread.of([r.single.broker_per_event_us for r in done]),
        broker_burst_us_per_event=Spread.of([r.burst.broker_per_event_us for r in done]),
        tick_single_ms=Spread.of([r.single.tick_ms for r in done]),
        tick_burst_ms=Spread.of([r.burst.tick_ms for r in done]),
        ratio_single=Spread.of([r.single.per_delivery_us / r.floor_single for r in done]),
        ratio_single_without_publish=Spread.of(
            [
                (r.single.per_delivery_us - r.publish_single.per_delivery_us / subscribers)
                / r.floor_single
                for r in done
            ]
        ),
        cheaper_than_own_single=Spread.of(
            [r.single.per_delivery_us / r.burst.per_delivery_us for r in done]
        ),
        cheaper_than_floor_single=Spread.of(
            [r.floor_single / r.burst.per_delivery_us for r in done]
        ),
    )


def table(result: Result) -> str:
    """Lay the result out for a reader."""
    rows: list[tuple[str, Spread | None, str]] = [
        ("CPU µs per delivery", None, ""),
        ("  bare send loop, one frame a tick", result.floor_single, ""),
        ("  server, one event a tick", result.server_single, ""),
        (f"  bare send loop, {BURST} frames joined", result.floor_joined, ""),
        (f"  server, {BURST} events a tick", result.server_burst, ""),
        ("ratios", None, ""),
        ("  server / bare loop, one a tick", result.ratio_single, f"target <= {RATIO_TARGET}"),
        ("  the same without publishing", result.ratio_single_without_publish, ""),
        (
            f"  {BURST} a tick cheaper than own one a tick",
            result.cheaper_than_own_single,
            f"target >= {CHEAPER_TARGET:.0f}",
        ),
        (
            f"  {BURST} a tick cheaper than bare loop",
            result.cheaper_than_floor_single,
            f"target >= {CHEAPER_TARGET:.0f}",
        ),
        ("CPU µs per event (one subscriber)", None, ""),
        ("  server, published alone", result.publish_single_us_per_event, ""),
        (f"  server, {BURST} in a pipeline", result.publish_burst_us_per_event, ""),
        ("CPU µs per event (broker's process)", None, ""),
        ("  Valkey, published alone", result.broker_single_us_per_event, ""),
        (f"  Valkey, {BURST} in a pipeline", result.broker_burst_us_per_event, ""),
        ("ms from publish until all have it", None, ""),
        ("  one event", result.tick_single_ms, ""),
        (f"  {BURST} events", result.tick_burst_ms, ""),
    ]
    scene = f"{result.subscribers} subscribers, {result.frame_bytes} bytes a frame"
    lines = [f"{scene}, {result.rounds} rounds: median (lowest to highest)"]
    lines += [
        f"{name:42}{'' if value is None else value!s:34}{target}" for name, value, target in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def main() -> int:
    """Measure, print, and with --check exit 1 on a missed target."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.fanout", description=__doc__)
    parser.add_argument("--bellhop", help="the command to measure (default: beside this Python)")
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--frame-bytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--ticks", type=int, default=60, help="ticks of one event in each round")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    given = parser.parse_args()
    raise_open_files()
    try:
        result = measure(
            find_bellhop(given.bellhop),
            given.subscribers,
            given.frame_bytes,
            given.rounds,
            given.ticks,
        )
    except (ServerFailed, DrainFailed, FloorFailed) as failed:
        sys.exit(f"fanout: {failed}")
    print(json.dumps(asdict(result), indent=2) if given.json else table(result))
    return 1 if given.check and not result.meets_targets else 0


if __name__ == "__main__":
    sys.exit(main())
