"""What idle connections cost a second, of CPU and of Redis: `python -m loadtest.idle`."""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from redis import Redis

from loadtest.drain import Connect, drain_client
from loadtest.hotel import HOTEL
from loadtest.server import RunningServer, ServerFailed, find_bellhop, raise_open_files, serve
from loadtest.subscriber import DrainFailed

CPU_TARGET = 10.0
"""Percent of one core for 10,000 connections that answer their pings."""
COMMANDS_TARGET = 5.0
"""Commands of Redis a second beyond those of a server without connections, however many it has."""
SETTLED_S = 25.0
"""Past the server's first round of pings, sent every 20 s."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a while has cost, a second."""

    connections: int
    cpu_percent: float
    """Of one core, of the node's process."""
    broker_cpu_percent: float
    commands_per_s: Mapping[str, float]
    """Of Redis, by command; those inside of scripts count too."""

    @property
    def all_commands_per_s(self) -> float:
        """All of them together."""
        return sum(self.commands_per_s.values())


@dataclass(frozen=True, slots=True)
class Result:
    """Everything `--json` prints."""

    seconds: float
    empty: Cost
    full: Cost

    @property
    def meets_targets(self) -> bool:
        """True where both targets are met."""
        more = self.full.all_commands_per_s - self.empty.all_commands_per_s
        return self.full.cpu_percent <= CPU_TARGET and more <= COMMANDS_TARGET


def measure(bellhop: str, connections: int, seconds: float) -> Result:
    """Look at a server without connections, then with so many, for as long each."""
    with ExitStack() as stack:
        server = stack.enter_context(serve(bellhop))
        drain = stack.enter_context(drain_client())
        empty = _cost(server, 0, seconds)
        drain.connect(Connect("idle", server.port, connections, server.keys, HOTEL))
        time.sleep(SETTLED_S)
        full = _cost(server, connections, seconds)
        drain.report("idle", frames_each=0)
    return Result(seconds, empty, full)


def _cost(server: RunningServer, connections: int, seconds: float) -> Cost:
    with Redis.from_url(server.redis_url) as redis:
        cpu, broker_cpu, calls = server.cpu_s(), server.broker_cpu_s(), _calls(redis)
        began = time.monotonic()
        time.sleep(seconds)
        spent, broker_spent = server.cpu_s() - cpu, server.broker_cpu_s() - broker_cpu
        more = _calls(redis) - calls
        took = time.monotonic() - began
    del more["info"]
    per_s = {name: count / took for name, count in more.most_common()}
    return Cost(connections, spent / took * 100, broker_spent / took * 100, per_s)


def _calls(redis: "Redis") -> Counter[str]:
    stats: dict[str, dict[str, int]] = redis.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()})


def table(result: Result) -> str:
    """Lay the result out for a reader."""
    rows = (
        ("CPU of the node, % of a core", "cpu_percent", f"target <= {CPU_TARGET:.0f}"),
        ("CPU of Valkey, % of a core", "broker_cpu_percent", ""),
        (
            "commands of Redis a second",
            "all_commands_per_s",
            f"target <= {COMMANDS_TARGET:.0f} more",
        ),
    )
    empty, full = result.empty, result.full
    lines = [f"{'idle connections, subscribed':34}{empty.connections:10}{full.connections:10}"]
    for name, figure, target in rows:
        values = "".join(f"{getattr(cost, figure):10.2f}" for cost in (empty, full))
        lines.append(f"{name:34}{values}  {target}".rstrip())
    lines += [
        f"  {name:32}{empty.commands_per_s.get(name, 0.0):10.2f}{per_s:10.2f}"
        for name, per_s in full.commands_per_s.items()
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure, print, and with --check exit 1 on a missed target."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.idle", description=__doc__)
    parser.add_argument("--bellhop", help="the command to measure (default: beside this Python)")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to look")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    given = parser.parse_args()
    raise_open_files()
    try:
        result = measure(find_bellhop(given.bellhop), given.connections, given.seconds)
    except (ServerFailed, DrainFailed) as failed:
        sys.exit(f"idle: {failed}")
    print(json.dumps(asdict(result), indent=2) if given.json else table(result))
    return 1 if given.check and not result.meets_targets else 0


if __name__ == "__main__":
    sys.exit(main())
