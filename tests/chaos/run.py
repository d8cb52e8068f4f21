"""One chaos run, from the first subscribe to the judgement."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from redis.asyncio import Redis

from tests.chaos.flock import Flock, Pyshers
from tests.chaos.ledger import Ledger, Verdict
from tests.chaos.links import Balancer, links
from tests.chaos.plan import NODES, PING_S, Plan, Size
from tests.chaos.publishing import Entrance, Publishing
from tests.chaos.valkey import Valkey, running_valkey
from tests.chaos.weather import Weather
from tests.harness import APP_ID, Server, ended, eventually, make_server

_SETTLED_S: Final = 60.0
"""Within which everybody has everything when all is well again: what is not there then is lost."""


@dataclass
class Outcome:
    """What a run came to."""

    size: Size
    seed: int
    verdict: Verdict = field(default_factory=Verdict)
    faults: list[str] = field(default_factory=list)
    taken: Counter[Entrance] = field(default_factory=Counter)
    retries: int = 0
    blows: Counter[str] = field(default_factory=Counter)
    connects: int = 0
    channels: int = 0
    wrong_rosters: list[str] = field(default_factory=list)
    rosters: int = 0
    compared: int = 0
    """Rosters as clients have them."""
    rejected: list[str] = field(default_factory=list)
    renumbered: list[str] = field(default_factory=list)
    publishing_s: float = 0.0
    whole_s: float = 0.0
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)


async def run(size: Size, folder: Path, seed: int) -> Outcome:
    """Run it; the outcome says what was wrong."""
    outcome, began = Outcome(size, seed), time.monotonic()
    random, plan, ledger = Random(seed), Plan(size), Ledger(size.window_s)
    outcome.channels = len(plan.channels)
    rooms = [f"{plan.hotels[number % size.hotels]}.rooms" for number in range(size.pyshers)]
    async with AsyncExitStack() as stack:
        valkey = await stack.enter_async_context(running_valkey(folder / "valkey"))
        nodes = await stack.enter_async_context(_nodes(size, folder, valkey))
        balancer = Balancer([node.port for node in nodes])
        await stack.enter_async_context(_running(balancer.run()))
        count = size.clients + size.pyshers + 1
        ways = await stack.enter_async_context(links(balancer, count))
        flock = Flock(plan.people, ways[: size.clients], ledger)
        pyshers = Pyshers(rooms, ways[size.clients : -1], ledger)
        await stack.enter_async_context(flock.running(size.hosts))
        await stack.enter_async_context(pyshers.running())
        await flock.open()
        backend = Publishing(
            valkey.url, ways[-1].port, list(plan.channels.values()), random, ledger.born
        )
        await stack.enter_async_context(_running(backend.run()))
        others = ways[size.clients :]
        weather = Weather(
            size, random, nodes=nodes, valkey=valkey, flock=flock, backend=backend, others=others
        )
        published = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(backend.publish_for(size.seconds, size.per_s))
            tasks.create_task(weather.run(size.seconds))
        await backend.publish_last()
        outcome.publishing_s = time.monotonic() - published
        with contextlib.suppress(AssertionError):
            await eventually(ledger.complete, within_s=_SETTLED_S)
        outcome.wrong_rosters = await _wrong_rosters(flock, nodes)
        outcome.rosters, outcome.compared = len(flock.truth()), len(flock.rosters)
        outcome.rejected = await _rejected(valkey)
        outcome.blows, outcome.connects = weather.counts, flock.connects
    outcome.taken, outcome.retries = backend.taken, backend.retries
    outcome.verdict, outcome.faults = ledger.verdict(), ledger.faults
    outcome.renumbered = ledger.epochs()
    outcome.whole_s = time.monotonic() - began
    return outcome


@contextlib.asynccontextmanager
async def _nodes(size: Size, folder: Path, valkey: Valkey) -> AsyncIterator[list[Server]]:
    settings = {
        "REDIS_URL": valkey.url,
        "BELLHOP_UNLISTED_CHANNELS": "pusher",
        "BELLHOP_CONTRACT_MODE": "enforce",
        "BELLHOP_PING_S": str(PING_S),
        "BELLHOP_ACTIVITY_TIMEOUT_S": str(size.activity_s),
        "BELLHOP_HISTORY_S": str(size.window_s),
        "BELLHOP_DRAIN_S": str(size.drain_s),
    }
    async with AsyncExitStack() as stack:
        nodes = [make_server(folder / f"node-{number}.log", settings) for number in range(NODES)]
        for node in nodes:
            stack.enter_context(ended(node))
            node.start()
        await asyncio.gather(*(node.wait_until_ready() for node in nodes))
        yield nodes


@contextlib.asynccontextmanager
async def _running(part: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a part around the body, which ends when the part fails."""
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(part)
        yield
        running.cancel()


async def _wrong_rosters(flock: Flock, nodes: list[Server]) -> list[str]:
    """Compare rosters with the truth until they agree; return in what they never did."""
    wrong: list[str] = []

    async def agree() -> bool:
        wrong[:] = []
        truth = flock.truth()
        for (who, channel), ids in (await flock.ask_rosters()).items():
            if ids != truth[channel]:
                wrong.append(f"pusher-js {who} on {channel}: {_differ(ids, truth[channel])}")
        for channel, members in truth.items():
            for node in nodes:
                ids = await _users(node, channel)
                if ids != members:
                    wrong.append(f"HTTP of {node.port} on {channel}: {_differ(ids, members)}")
        return not wrong

    with contextlib.suppress(AssertionError):
        await eventually(agree, within_s=_SETTLED_S)
    return wrong


async def _users(node: Server, channel: str) -> list[str]:
    answer = await node.api("GET", f"/apps/{APP_ID}/channels/{channel}/users")
    return sorted(user["id"] for user in answer.json()["users"])


def _differ(ids: list[str], members: list[str]) -> str:
    return f"too many {set(ids) - set(members)}, missing {set(members) - set(ids)}"


async def _rejected(valkey: Valkey) -> list[str]:
    """Return what the nodes refused; nothing of what is published here may be."""
    async with Redis.from_url(valkey.url, decode_responses=True) as client:
        entries: Any = await client.xrange("bellhop:rejected")
    return [f"{fields['channel']}: {fields['reason']}" for _, fields in entries]
