"""Triggers of the HTTP API per second of the server's CPU: `python -m loadtest.trigger`."""

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from loadtest.bare import bare_server
from loadtest.fanout import Spread
from loadtest.hotel import Keys
from loadtest.poster import Backend, PostingFailed, Triggers, backend
from loadtest.server import RunningServer, ServerFailed, find_bellhop, serve

CHANNEL = "loadtest"
TARGET = 6000.0
"""Triggers per second of CPU of the server's process."""
_PLAIN = {"BELLHOP_UNLISTED_CHANNELS": "pusher", "BELLHOP_REQUIRE_TOKEN": "false"}


@dataclass(frozen=True, slots=True)
class Result:
    """Everything `--json` prints."""

    connections: int
    pipelined: int
    data_bytes: int
    rounds: int
    triggers: int
    floor_per_cpu_s: Spread
    server_per_cpu_s: Spread
    floor_per_s: Spread
    server_per_s: Spread
    server_us: Spread
    broker_us: Spread

    @property
    def meets_target(self) -> bool:
        """True where the target is met."""
        return self.server_per_cpu_s.median >= TARGET


@dataclass(frozen=True, slots=True)
class Round:
    """As many triggers to either, close together in time; seconds."""

    floor_cpu_s: float
    floor_s: float
    server_cpu_s: float
    broker_cpu_s: float
    server_s: float


def _server_round(
    server: RunningServer, posting: Backend, count: int, total: int
) -> tuple[float, float, float]:
    cpu, broker_cpu = server.cpu_s(), server.broker_cpu_s()
    elapsed = posting.post("server", count)
    # Its part in bringing the events to the subscriber belongs to the price.
    posting.await_arrival("server", total)
    return server.cpu_s() - cpu, server.broker_cpu_s() - broker_cpu, elapsed


def measure(bellhop: str, triggers: Triggers, rounds: int, count: int) -> Result:
    """Run everything: `count` triggers in each round, the first of which warms up."""
    done: list[Round] = []
    with ExitStack() as stack:
        server = stack.enter_context(serve(bellhop, _PLAIN))
        bare = stack.enter_context(bare_server())
        posting = stack.enter_context(backend(triggers))
        posting.open("floor", bare.port, subscribed=False)
        posting.open("server", server.port, subscribed=True)
        for number in range(rounds + 1):
            floor_cpu = bare.cpu_s()
            floor_s = posting.post("floor", count)
            floor_cpu = bare.cpu_s() - floor_cpu
            cpu, broker_cpu, elapsed = _server_round(server, posting, count, count * (number + 1))
            if number:
                done.append(Round(floor_cpu, floor_s, cpu, broker_cpu, elapsed))
    return Result(
        connections=triggers.connections,
        pipelined=triggers.pipelined,
        data_bytes=triggers.data_bytes,
        rounds=rounds,
        triggers=count,
        floor_per_cpu_s=Spread.of([count / r.floor_cpu_s for r in done]),
        server_per_cpu_s=Spread.of([count / r.server_cpu_s for r in done]),
        floor_per_s=Spread.of([count / r.floor_s for r in done]),
        server_per_s=Spread.of([count / r.server_s for r in done]),
        server_us=Spread.of([r.server_cpu_s * 1e6 / count for r in done]),
        broker_us=Spread.of([r.broker_cpu_s * 1e6 / count for r in done]),
    )


def table(result: Result) -> str:
    """Lay the result out for a reader."""
    rows: list[tuple[str, Spread | None, str]] = [
        ("triggers per second of CPU", None, ""),
        ("  bare ASGI callable that answers {}", result.floor_per_cpu_s, ""),
        ("  server", result.server_per_cpu_s, f"target >= {TARGET:.0f}"),
        ("triggers per second", None, ""),
        ("  bare ASGI callable", result.floor_per_s, ""),
        ("  server", result.server_per_s, ""),
        ("CPU µs per trigger", None, ""),
        ("  server", result.server_us, ""),
        ("  Valkey", result.broker_us, ""),
    ]
    scene = (
        f"{result.connections} connections, {result.pipelined} at once on each,"
        f" {result.data_bytes} bytes of data, one subscriber,"
        f" {result.rounds} rounds of {result.triggers}: median (lowest to highest)"
    )
    lines = [scene]
    lines += [
        f"{name:42}{'' if value is None else value!s:40}{target}" for name, value, target in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def main() -> int:
    """Measure, print, and with --check exit 1 on a missed target."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.trigger", description=__doc__)
    parser.add_argument("--bellhop", help="the command to measure (default: beside this Python)")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--pipelined", type=int, default=1, help="requests at once on each")
    parser.add_argument("--data-bytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--triggers", type=int, default=4000, help="in each round")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--check", action="store_true", help="exit 1 when the target is missed")
    given = parser.parse_args()
    triggers = Triggers(Keys(), CHANNEL, given.data_bytes, given.connections, given.pipelined)
    try:
        result = measure(find_bellhop(given.bellhop), triggers, given.rounds, given.triggers)
    except (ServerFailed, PostingFailed) as failed:
        sys.exit(f"trigger: {failed}")
    print(json.dumps(asdict(result), indent=2) if given.json else table(result))
    return 1 if given.check and not result.meets_target else 0


if __name__ == "__main__":
    sys.exit(main())
