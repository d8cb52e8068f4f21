"""Resident memory of an idle connection: `python -m loadtest.memory`."""

import argparse
import json
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from loadtest.drain import Connect, drain_client
from loadtest.hotel import HOTEL
from loadtest.server import (
    RunningServer,
    ServerFailed,
    find_bellhop,
    raise_open_files,
    serve,
)
from loadtest.subscriber import DrainFailed

TARGET_KB = 8.0
WARM_UP_CONNECTIONS = 200
SETTLED_S = 3.0
SETTLED_WITHIN_BYTES = 64 * 1024
SETTLE_DEADLINE_S = 60.0
PINGED_S = 25.0  # past one round of the server's own pings, sent every 20 s


@dataclass(frozen=True, slots=True)
class Stages:
    """Resident memory of the server's process in bytes, stage by stage.

    `before` is a server that 200 connections have come to and left, so that what is loaded and
    allocated once is not billed to the connections. `settled` and `pinged` are what counts:
    the second is after a round of pings and answers, collections by the server included.
    """

    subscribed: bool
    connections: int
    before: int
    connected: int
    settled: int
    pinged: int
    left: int

    def per_connection_kb(self, stage: int) -> float:
        """Answer kilobytes (1,024 bytes) per connection at a stage."""
        return (stage - self.before) / self.connections / 1024


def measure(bellhop: str, connections: int, *, subscribe: bool) -> Stages:
    """Fill a fresh server with idle connections and empty it again."""
    with ExitStack() as stack:
        server = stack.enter_context(serve(bellhop))
        drain = stack.enter_context(drain_client())
        warm_up = Connect(
            "warm-up", server.port, WARM_UP_CONNECTIONS, server.keys, HOTEL, subscribe
        )
        drain.connect(warm_up)
        drain.close("warm-up")
        before = _settled_rss(server)
        idle = Connect("idle", server.port, connections, server.keys, HOTEL, subscribe)
        drain.connect(idle)
        connected = server.rss_bytes()
        settled = _settled_rss(server)
        time.sleep(PINGED_S)
        pinged = _settled_rss(server)
        drain.report("idle", frames_each=0)
        drain.close("idle")
        left = _settled_rss(server)
    return Stages(subscribe, connections, before, connected, settled, pinged, left)


def _settled_rss(server: RunningServer) -> int:
    """Wait until the server's memory has hardly moved for a while, and answer it."""
    deadline = time.monotonic() + SETTLE_DEADLINE_S
    steady, since = server.rss_bytes(), time.monotonic()
    while time.monotonic() < min(deadline, since + SETTLED_S):
        time.sleep(0.1)
        now = server.rss_bytes()
        if abs(now - steady) > SETTLED_WITHIN_BYTES:
            steady, since = now, time.monotonic()
    return steady


def table(results: list[Stages]) -> str:
    """Lay the results out for a reader."""
    lines = ["KB of the server's RSS per idle connection"]
    for stages in results:
        what = "subscribed" if stages.subscribed else "authenticated, unsubscribed"
        lines.append(f"{stages.connections} connections, {what}")
        for name in ("connected", "settled", "pinged"):
            target = (
                f"  target <= {TARGET_KB:.0f}" if stages.subscribed and name != "connected" else ""
            )
            lines.append(
                f"  {name:10}{stages.per_connection_kb(getattr(stages, name)):8.2f}{target}"
            )
        megabytes = [
            f"{size / 1024**2:.1f}" for size in (stages.before, stages.pinged, stages.left)
        ]
        lines.append(
            "  server {} MB before, {} MB full, {} MB after all have left".format(*megabytes)
        )
    return "\n".join(lines)


def main() -> int:
    """Measure, print, and with --check exit 1 on a missed target."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.memory", description=__doc__)
    parser.add_argument("--bellhop", help="the command to measure (default: beside this Python)")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--check", action="store_true", help="exit 1 when the target is missed")
    given = parser.parse_args()
    raise_open_files()
    try:
        bellhop = find_bellhop(given.bellhop)
        results = [measure(bellhop, given.connections, subscribe=each) for each in (True, False)]
    except (ServerFailed, DrainFailed) as failed:
        sys.exit(f"memory: {failed}")
    print(json.dumps([asdict(r) for r in results], indent=2) if given.json else table(results))
    subscribed = results[0]
    worst = max(
        subscribed.per_connection_kb(subscribed.settled),
        subscribed.per_connection_kb(subscribed.pinged),
    )
    return 1 if given.check and worst > TARGET_KB else 0


if __name__ == "__main__":
    sys.exit(main())
