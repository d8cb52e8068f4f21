"""Isolation over real processes: nodes die and come back, rights end and return, tokens expire."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import httpx
import pytest
import redis.asyncio
import websockets

from server.broker.embedded import EmbeddedValkey
from tests import oracle
from tests.harness import (
    APP_ID,
    Server,
    ended,
    eventually,
    free_port_pair,
    make_server,
    token,
)
from tests.oracle import Claims
from tests.server.world import REVOCABLE, SPOKEN, event_for, shown_in
from tests.visibility import marker, markers

SLACK_S: Final = 2.0
"""How long after we asked for a right's end a frame may be read that was sent before it."""


_REVOCABLE: Final = [named for named in REVOCABLE if named[0] != "booking"]
"""What a backend can name: a stay ends with its guest's check-out."""


class Spoken(NamedTuple):
    """An event, by the markers that it carries."""

    channel: str
    name: str
    hotel: str
    parts: tuple[str, str, str]


@dataclass
class History:
    """What held when: the last entry before a time, and all since."""

    entries: list[tuple[float, Any]] = field(default_factory=list)

    def add(self, value: Any) -> None:
        self.entries.append((time.time(), value))

    def within(self, since: float) -> list[Any]:
        """Return what held at some moment since then."""
        before = [value for at, value in self.entries if at <= since][-1:]
        return before + [value for at, value in self.entries if at > since]


class Lateness:
    """How late this very process reads what has come: a busy machine is no leak."""

    def __init__(self) -> None:
        self._ticked_at = time.time()
        self._seen: deque[float] = deque(maxlen=40)

    def worst(self) -> float:
        """Return the worst of the last two seconds."""
        return max(time.time() - self._ticked_at, *self._seen, 0.0, 0.0)

    async def watch(self) -> None:
        """Measure, until cancelled."""
        while True:
            await asyncio.sleep(0.05)
            now = time.time()
            self._seen.append(now - self._ticked_at)
            self._ticked_at = now


@dataclass
class Trouble:
    """Two nodes, the people at them, and what the oracle knows."""

    rng: Random
    nodes: list[Server]
    backend: redis.asyncio.Redis
    spoken: dict[str, Spoken] = field(default_factory=dict)
    revoked: dict[tuple[str, str], float] = field(default_factory=dict)
    revocations: History = field(default_factory=History)
    lateness: Lateness = field(default_factory=Lateness)
    fresh: Iterator[int] = field(default_factory=itertools.count)
    frames: int = 0
    ends: list[int] = field(default_factory=list)
    calm: bool = False
    """The trouble is over: everybody connects with all that was drawn, for long."""

    async def publish(self, channel: str) -> tuple[str, str, str]:
        """Publish an event by the entrance that keeps it while no node is there."""
        category, name = event_for(channel, self.rng)
        hotel = channel.removeprefix("private-").partition(".")[0]
        if hotel not in oracle.HOTELS:
            hotel = self.rng.choice([*oracle.HOTELS, "elsewhere"])
        note, money, listed = (marker(next(self.fresh)) for _ in range(3))
        payload: dict[str, Any] = {"note": note, "payment": {"sum": money}, "status": listed}
        if name == "chat_message_created":
            payload = {"note": note, "payment_by": money, "body": listed}
        body = {"category": category, "type": name, "payload": payload}
        body["meta"] = {"hotel_slug": hotel}
        for part in (note, money, listed):
            self.spoken[part] = Spoken(channel, name, hotel, (note, money, listed))
        fields: Any = {"channel": channel, "event": name, "data": json.dumps(body)}
        await self.backend.xadd("bellhop:publish", fields)
        return note, money, listed

    async def revoke(self) -> None:
        """Revoke something, or undo a revocation."""
        what, value = self.rng.choice(_REVOCABLE)
        if (what, value) in self.revoked:
            await self.lift(what, value)
            return
        at = time.time()
        await self.order({what: value})
        self.revoked[what, value] = at
        self.revocations.add(dict(self.revoked))

    async def lift(self, what: str, value: str) -> None:
        """Undo a revocation: what it took may be heard again from now on."""
        del self.revoked[what, value]
        self.revocations.add(dict(self.revoked))
        await self.order({what: value, "undo": True})

    async def order(self, asked: dict[str, Any]) -> None:
        """Ask for it until a node that lives has written it."""

        async def written() -> bool:
            node = self.rng.choice(self.nodes)
            with contextlib.suppress(httpx.TransportError):
                answer = await node.api("POST", f"/apps/{APP_ID}/revocations", asked)
                return answer.status_code == 200
            return False

        await eventually(written)

    def sees(self, claims: Claims, spoken: Spoken, revoked: oracle.Revoked) -> set[str]:
        rights = oracle.left(claims, revoked)
        view = rights and oracle.view(rights, spoken.channel, spoken.hotel)
        return shown_in(view, spoken.name, *spoken.parts) if view else set()


class Person:
    """Somebody who always comes back, to the other node where one is gone."""

    def __init__(self, trouble: Trouble, number: int) -> None:
        self.trouble = trouble
        self.sub = f"p{number}"
        self.path = f"/s/instance-{number:04}" if number % 2 else ""
        self.number = number
        self.claims: Claims = {}
        self.got: set[str] = set()
        self.subscribed: set[str] = set()
        self.socket: Any = None

    def draw(self) -> None:
        rng, now = self.trouble.rng, time.time()
        self.claims = oracle.some_claims(rng, self.sub, now - 1)
        self.claims["exp"] = now + rng.choice([3, 6, 600, 600])
        if self.trouble.calm:
            self.claims |= {"exp": now + 600, "calm": True}

    @property
    def settled(self) -> bool:
        """Whether it is where it must be after the trouble."""
        return bool(self.claims.get("calm")) and self.subscribed >= entitled(self.claims)

    async def live(self) -> None:
        """Connect, read until it ends, and again."""
        for attempt in itertools.count(self.number):
            node = self.trouble.nodes[attempt % len(self.trouble.nodes)]
            if not self.claims or self.trouble.calm or self.trouble.rng.random() < 0.5:
                self.draw()
            with contextlib.suppress(OSError, websockets.WebSocketException, TimeoutError):
                path = f"{self.path}/t/{token(**{'iat': None, **self.claims})}"
                async with node.connect(path) as self.socket:
                    await self.converse(self.socket)
            self.socket = None
            self.subscribed = set()
            await asyncio.sleep(0.05)

    async def converse(self, socket: Any) -> None:
        for channel in SPOKEN:
            await socket.send(
                json.dumps({"event": "pusher:subscribe", "data": {"channel": channel}})
            )
        try:
            async for text in socket:
                self.judge(text, time.time())
                if '"pusher:ping"' in text:
                    await socket.send('{"event":"pusher:pong","data":{}}')
        finally:
            self.trouble.ends.append(socket.close_code or 0)

    def judge(self, text: str, now: float) -> None:
        """Hold one frame against everything that held until just now."""
        trouble, found = self.trouble, markers(text)
        self.note(text)
        if not found:
            return
        trouble.frames += 1
        late = trouble.lateness.worst()
        assert now < self.claims["exp"] + 0.5 + late, "heard after the token's end"
        spoken = trouble.spoken[next(iter(found))]
        allowed = set().union(
            *(
                trouble.sees(self.claims, spoken, revoked)
                for revoked in trouble.revocations.within(now - SLACK_S - late)
            )
        )
        assert found <= allowed, f"a leak to {self.claims}: {text}"
        self.got |= found

    def note(self, text: str) -> None:
        if "subscription_succeeded" in text:
            self.subscribed.add(json.loads(text)["channel"])


@contextlib.asynccontextmanager
async def troubled(folder: Path, seed: int) -> AsyncIterator[Trouble]:
    """Start a Valkey and two nodes."""
    async with EmbeddedValkey(free_port_pair()) as url, contextlib.AsyncExitStack() as stack:
        nodes = [
            stack.enter_context(ended(make_server(folder / f"{name}.log", {"REDIS_URL": url})))
            for name in "ab"
        ]
        for node in nodes:
            node.start()
        for node in nodes:
            await node.wait_until_ready()
        backend = redis.asyncio.Redis.from_url(url)
        stack.push_async_callback(backend.aclose)
        trouble = Trouble(Random(seed), nodes, backend)
        trouble.revocations.add({})
        yield trouble


async def go_through(trouble: Trouble, people: list[Person], rounds: int) -> None:
    """Publish, revoke, restore, kill and restart; then calm down, and see that all still works."""
    async with asyncio.TaskGroup() as tasks:
        living = [tasks.create_task(person.live()) for person in people]
        living.append(tasks.create_task(trouble.lateness.watch()))
        await eventually(lambda: sum(bool(person.subscribed) for person in people) > 5)
        for number in range(rounds):
            for _ in range(15):
                await trouble.publish(trouble.rng.choice(SPOKEN))
                await asyncio.sleep(0.01)
            await trouble.revoke()
            if number % 6 == 4:
                node = trouble.rng.choice(trouble.nodes)
                how = trouble.rng.choice([signal.SIGKILL, signal.SIGTERM])
                await asyncio.to_thread(node.end, how)
                node.start()
            elif number % 6 == 0:
                for node in trouble.nodes:
                    await node.wait_until_ready()
        await calm(trouble, people)
        for task in living:
            task.cancel()


async def calm(trouble: Trouble, people: list[Person]) -> None:
    """Undo every revocation, have everybody come anew, and see that what is due arrives."""
    for node in trouble.nodes:
        await node.wait_until_ready()
    for what, value in list(trouble.revoked):
        await trouble.lift(what, value)
    trouble.calm = True

    async def all_there() -> bool:
        late = [person for person in people if not person.settled]
        for person in late:
            if person.socket is not None and not person.claims.get("calm"):
                await person.socket.close(1001)
        return not late

    await eventually(all_there, within_s=30)
    for channel in SPOKEN:
        parts = await trouble.publish(channel)
        for person in people:
            due = trouble.sees(person.claims, trouble.spoken[parts[0]], {})
            await eventually(partial(due.issubset, person.got))


def entitled(claims: Claims) -> set[str]:
    """Return the channels on which there can be something to hear."""
    hotels = ("", *oracle.HOTELS, "elsewhere")
    return {
        channel
        for channel in SPOKEN
        if any(oracle.view(claims, channel, hotel) for hotel in hotels)
    }


async def test_isolation_holds_while_nodes_come_and_go(tmp_path: Path) -> None:
    """Every frame is one that its reader may see just then; afterwards all that is due arrives."""
    async with troubled(tmp_path, seed=3) as trouble:
        people = [Person(trouble, number) for number in range(24)]
        await go_through(trouble, people, rounds=12)
        assert trouble.frames > 100
        assert {4009, 4101} & set(trouble.ends)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_isolation_holds_for_long_while_nodes_come_and_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same with more people, and for longer."""
    async with troubled(tmp_path, seed=4) as trouble:
        people = [Person(trouble, number) for number in range(60)]
        await go_through(trouble, people, rounds=150)
        with capsys.disabled():
            print(f"\nisolation over nodes: {trouble.frames:,} frames, {len(trouble.ends):,} ends")  # noqa: T201  the report
        assert trouble.frames > 10_000
