"""A herd that is cut off and comes back at once: `python -m loadtest.herd`."""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass

import uvloop
from redis.asyncio import Redis

from loadtest.bystanders import Bystanders
from loadtest.device import hotel_slug
from loadtest.devices import Devices, HerdFailed, Return, devices
from loadtest.hotel import (
    booking_updated,
    bookings_channel,
    compact,
    room_updated,
    rooms_channel,
)
from loadtest.server import RunningServer, ServerFailed, find_bellhop, raise_open_files, serve

TARGET_S = 10.0
"""From the cut until everybody has caught up: pusher-js' own second included."""
WORKERS = 2
_EXPECTED = ("received", "repeated")


@dataclass(frozen=True, slots=True)
class Scene:
    """What is played."""

    clients: int = 10_000
    hotels: int = 100
    on_shift: int = 10
    """Of each hotel's clients, on its presence channel too."""
    events_per_s: int = 100
    settled_s: float = 25.0
    """Before the cut: past one round of the server's own pings, so that there are proofs."""
    processes: int = 2
    how: str = "cut"
    """cut, silent or kill."""


@dataclass(frozen=True, slots=True)
class Delays:
    """Milliseconds that something took, for those who were not cut off."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> "Delays":
        """Sum up."""
        sorted_ms = sorted(each * 1e3 for each in seconds)
        if not sorted_ms:
            return cls(0, 0.0, 0.0, 0.0)
        return cls(len(sorted_ms), _rank(sorted_ms, 0.5), _rank(sorted_ms, 0.99), sorted_ms[-1])

    def __str__(self) -> str:
        return f"{self.p50_ms:8.1f}{self.p99_ms:9.1f}{self.max_ms:9.1f}"


def _rank(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@dataclass(frozen=True, slots=True)
class Times:
    """When those who were cut off were where; in seconds from the cut."""

    returned: int
    greeted_p50_s: float
    greeted_last_s: float
    back_p50_s: float
    back_p99_s: float
    back_last_s: float
    """Authenticated, and all channels confirmed."""
    caught_up_s: float
    """Everything that was published until then has arrived at everybody."""

    @classmethod
    def of(cls, returns: Iterable[Return], cut_at: float, caught_up_at: float) -> "Times":
        """Sum up what the processes have seen."""
        greeted = sorted(at - cut_at for each in returns for at in each.greeted_at)
        back = sorted(at - cut_at for each in returns for at in each.back_at)
        return cls(
            returned=len(back),
            greeted_p50_s=_rank(greeted, 0.5),
            greeted_last_s=greeted[-1],
            back_p50_s=_rank(back, 0.5),
            back_p99_s=_rank(back, 0.99),
            back_last_s=back[-1],
            caught_up_s=caught_up_at - cut_at,
        )


@dataclass(frozen=True, slots=True)
class Spent:
    """What the return has cost."""

    server_cpu_s: float
    """Of the nodes that are alive."""
    broker_cpu_s: float
    commands: Mapping[str, int]
    """Of Redis."""


@dataclass(frozen=True, slots=True)
class Result:
    """Everything `--json` prints."""

    scene: Scene
    times: Times
    events: int
    repeated: int
    """Events that came a second time with a replay."""
    troubles: Mapping[str, int]
    """What should not have been: events lost, gaps, connections turned away."""
    spent: Spent
    """From the cut until everybody has caught up."""
    rss_mb: Mapping[str, float]
    """Of the nodes together, and of the broker: before the cut and after."""
    calm: Mapping[str, Delays]
    herd: Mapping[str, Delays]

    @property
    def meets_target(self) -> bool:
        """True where everybody had everything in time."""
        lost = self.troubles.get("lost", 0) + self.troubles.get("bellhop:gap", 0)
        return self.times.caught_up_s <= TARGET_S and not lost


class Publisher:
    """A backend that publishes the next event of the next hotel, at a steady pace."""

    def __init__(self, redis: "Redis", scene: Scene) -> None:
        self._redis = redis
        self._scene = scene
        self.numbers = [[0, 0] for _ in range(scene.hotels)]
        """Of the last event of each hotel's rooms and bookings."""

    async def run(self) -> None:
        """Publish until cancelled: rooms of all hotels in turn, then bookings, and so on."""
        loop = asyncio.get_running_loop()
        began, count = loop.time(), 0
        while True:
            due = round((loop.time() - began) * self._scene.events_per_s)
            pipeline = self._redis.pipeline(transaction=False)
            for turn in range(count, due):
                round_, hotel = divmod(turn, self._scene.hotels)
                pipeline.publish(*self._next(hotel, round_ % 2))
            if due > count:
                await pipeline.execute()
            count = due
            await asyncio.sleep(0.01)

    def _next(self, hotel: int, kind: int) -> tuple[str, bytes]:
        slug = hotel_slug(hotel)
        number = self.numbers[hotel][kind] + 1
        self.numbers[hotel][kind] = number
        if kind:
            return f"bellhop:publish:{bookings_channel(slug)}", compact(
                booking_updated(slug, number)
            )
        return f"bellhop:publish:{rooms_channel(slug)}", compact(room_updated(slug, number))

    def published(self) -> list[tuple[int, int]]:
        """Return up to where everything is published, by hotel."""
        return [(rooms, bookings) for rooms, bookings in self.numbers]


class Watch:
    """What the server has cost since it was made."""

    def __init__(self, server: RunningServer, redis: "Redis") -> None:
        self._server = server
        self._redis = redis
        self._cpu = self._broker_cpu = 0.0
        self._calls: Counter[str] = Counter()

    async def begin(self) -> None:
        """Note where everything stands."""
        self._server = self._server.surviving()
        self._cpu, self._broker_cpu = self._server.cpu_s(), self._server.broker_cpu_s()
        self._calls = await self._commands()

    async def spent(self) -> Spent:
        """Return what was spent since."""
        cpu = self._server.cpu_s() - self._cpu
        broker_cpu = self._server.broker_cpu_s() - self._broker_cpu
        calls = await self._commands() - self._calls
        return Spent(cpu, broker_cpu, dict(calls.most_common()))

    async def _commands(self) -> Counter[str]:
        stats = await self._redis.info("commandstats")
        return Counter({name.removeprefix("cmdstat_"): s["calls"] for name, s in stats.items()})

    def rss(self) -> tuple[float, float]:
        """Return resident megabytes of the nodes and of the broker."""
        return self._server.rss_bytes() / 2**20, self._server.broker_rss_bytes / 2**20


async def play(server: RunningServer, herd: Devices, scene: Scene) -> Result:
    """Have everybody come, cut them off, and see them back."""
    async with Redis.from_url(server.redis_url) as redis:
        publisher, watch = Publisher(redis, scene), Watch(server, redis)
        await herd.come(server.port, server.keys, scene.clients, scene.hotels, scene.on_shift)
        async with asyncio.TaskGroup() as tasks:
            publishing = tasks.create_task(publisher.run())
            bystanders = Bystanders(server, scene.hotels)
            looking = await bystanders.come(tasks)
            await asyncio.sleep(scene.settled_s)
            await herd.back()
            before, calm_until = watch.rss(), time.monotonic()
            cut_at = await _cut(server, herd, scene)
            await watch.begin()
            returns = await herd.back()
            await herd.catch_up(publisher.published())
            caught_up_at, spent = time.monotonic(), await watch.spent()
            publishing.cancel()
            await asyncio.wait([publishing])
            await herd.catch_up(publisher.published())
            returns += await herd.back()
            looking.cancel()
        after = watch.rss()
        await herd.leave()
    calm, meanwhile = bystanders.delays(calm_until, caught_up_at)
    counts = sum((each.counts for each in returns), Counter[str]())
    names = ("nodes before", "Valkey before", "nodes", "Valkey")
    return Result(
        scene=scene,
        times=Times.of(returns, cut_at, caught_up_at),
        events=sum(map(sum, publisher.numbers)),
        repeated=counts["repeated"],
        troubles=_troubles(counts, bystanders.unanswered),
        spent=spent,
        rss_mb=dict(zip(names, before + after, strict=True)),
        calm={name: Delays.of(each) for name, each in calm.items()},
        herd={name: Delays.of(each) for name, each in meanwhile.items()},
    )


def _troubles(counts: Counter[str], unanswered: int) -> dict[str, int]:
    found = {name: count for name, count in counts.items() if name not in _EXPECTED}
    return {**found, "requests unanswered": unanswered} if unanswered else found


async def _cut(server: RunningServer, herd: Devices, scene: Scene) -> float:
    cut_at = time.monotonic()
    if scene.how == "kill":
        os.kill(server.pids[0], signal.SIGKILL)
        # Their sockets' ends are there within this time, and nobody is back before a second.
        await asyncio.sleep(0.5)
    else:
        await herd.cut(silently=scene.how == "silent")
    return cut_at


def measure(bellhop: str, scene: Scene) -> Result:
    """Run everything."""
    with ExitStack() as stack:
        server = stack.enter_context(serve(bellhop, workers=WORKERS))
        herd = stack.enter_context(devices(scene.processes))
        try:
            return uvloop.run(play(server, herd, scene))
        except ExceptionGroup as group:
            raise HerdFailed(repr(group.exceptions[0])) from group


def table(result: Result) -> str:
    """Lay the result out for a reader."""
    scene, times = result.scene, result.times
    what = f"{scene.clients} clients of {scene.hotels} hotels on {WORKERS} workers"
    troubles = dict(result.troubles) or "none"
    per_return_ms = result.spent.server_cpu_s * 1e3 / max(times.returned, 1)
    cpu = f"{result.spent.server_cpu_s:.2f} s of the nodes, {per_return_ms:.2f} ms a return"
    calls = ", ".join(f"{name} {count}" for name, count in list(result.spent.commands.items())[:10])
    rows = (
        ("greeted, half of them", times.greeted_p50_s),
        ("greeted, the last", times.greeted_last_s),
        ("all channels, half of them", times.back_p50_s),
        ("all channels, 99 of 100", times.back_p99_s),
        ("all channels, the last", times.back_last_s),
        ("caught up, the last", times.caught_up_s),
    )
    lines = [
        f"{what}, {scene.events_per_s} events a second; {scene.how}: {times.returned} came back",
        "seconds from the cut",
        *(f"  {name:30}{seconds:8.2f}" for name, seconds in rows),
        f"events: {result.events}, {result.repeated} repeated by replays; troubles: {troubles}",
        f"CPU: {cpu}; {result.spent.broker_cpu_s:.2f} s of Valkey",
        f"commands of Redis: {calls}",
        "MB resident: " + ", ".join(f"{name} {mb:.0f}" for name, mb in result.rss_mb.items()),
        f"{'ms for bystanders':32}  median      p99      max",
    ]
    lines[7] += f"  target <= {TARGET_S:.0f}"
    for when, seen in (("calm", result.calm), ("the herd", result.herd)):
        lines += [f"  {f'{name}, {when}':30}{each}  of {each.count}" for name, each in seen.items()]
    return "\n".join(lines)


def main() -> int:
    """Measure, print, and with --check exit 1 on a missed target."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.herd", description=__doc__)
    default = Scene()
    parser.add_argument("--bellhop", help="the command to measure (default: beside this Python)")
    parser.add_argument("--clients", type=int, default=default.clients)
    parser.add_argument("--hotels", type=int, default=default.hotels)
    parser.add_argument("--on-shift", type=int, default=default.on_shift)
    parser.add_argument("--events-per-s", type=int, default=default.events_per_s)
    parser.add_argument("--settled-s", type=float, default=default.settled_s)
    parser.add_argument("--processes", type=int, default=default.processes)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--silent", dest="how", action="store_const", const="silent", default="cut")
    how.add_argument("--kill", dest="how", action="store_const", const="kill")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--check", action="store_true", help="exit 1 when the target is missed")
    given = vars(parser.parse_args())
    bellhop, as_json, check = (given.pop(name) for name in ("bellhop", "json", "check"))
    raise_open_files()
    try:
        result = measure(find_bellhop(bellhop), Scene(**given))
    except (ServerFailed, HerdFailed) as failed:
        sys.exit(f"herd: {failed}")
    print(json.dumps(asdict(result), indent=2) if as_json else table(result))
    return 1 if check and not result.meets_target else 0


if __name__ == "__main__":
    sys.exit(main())
