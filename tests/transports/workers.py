"""The workers of one server, and a way to say which of them has a connection."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import psutil

from server.transports.homes import Homes
from tests.harness import APP_KEY, DEADLINE_S, Server, command_line, eventually
from tests.transports.fallback import Fallback

COUNT: Final = 3


@dataclass
class Workers:
    """All workers of a server that was started with `COUNT` of them."""

    server: Server

    @property
    def processes(self) -> dict[int, psutil.Process]:
        """Those that run, by their number."""
        assert self.server.process is not None
        found = {}
        for child in psutil.Process(self.server.process.pid).children():
            command = command_line(child)
            if "--home" in command:
                found[int(command[command.index("--home") + 2])] = child
        return found

    async def all(self) -> dict[int, psutil.Process]:
        """Await that all run, and return them."""
        return dict(await eventually(lambda: len(p := self.processes) == COUNT and p))

    async def directory(self) -> Path:
        """Return where their private sockets are."""
        command = (await self.all())[0].cmdline()
        return Path(command[command.index("--home") + 3])

    @contextmanager
    def asleep(self, *numbers: int) -> Iterator[None]:
        """Keep some from their work."""
        sleeping = [self.processes[number] for number in numbers]
        for each in sleeping:
            each.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for each in sleeping:
                each.send_signal(signal.SIGCONT)

    @asynccontextmanager
    async def connected(
        self, number: int, *, connections: int = 3
    ) -> AsyncIterator[httpx.AsyncClient]:
        """Give a client whose connections one worker has accepted, so many at most."""
        await self.all()
        limits = httpx.Limits(max_connections=connections, keepalive_expiry=60)
        async with httpx.AsyncClient(timeout=DEADLINE_S, limits=limits) as http:
            with self.asleep(*({*range(COUNT)} - {number})):
                live = f"{self.server.url}/health/live"
                await asyncio.gather(*(http.get(live) for _ in range(connections)))
            yield http

    @asynccontextmanager
    async def session(
        self, home: int, *by: int, path: str = ""
    ) -> AsyncIterator[tuple[Fallback, ...]]:
        """Give the ways to one new session that lives at home: each by another worker."""
        async with AsyncExitStack() as stack:
            ways: list[Fallback] = []
            for number in by:
                http = await stack.enter_async_context(self.connected(number))
                ways.append(Fallback(self.server, http, f"{path}/app/{APP_KEY}"))
            while not lives_at(home, ways[0]):
                ways[0] = Fallback(self.server, ways[0].http, ways[0].path)
            for way in ways:
                way.session = ways[0].session
            yield tuple(ways)


def lives_at(home: int, client: Fallback) -> bool:
    """Whether a session's home is this worker."""
    return Homes(home, COUNT).elsewhere(f"{client.path}/{client.session}") is None
