"""Those who were not cut off: devices that stay, a health check, and a backend that triggers."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from loadtest.device import Device, Herd, hotel_slug
from loadtest.hotel import QUIET_HOTEL, rooms_channel
from loadtest.poster import Triggers, signed_request
from loadtest.server import HOST, RunningServer

DEVICES = 20
LOOK_S = 0.05
"""Between two health checks, and between two triggers."""

Seen = list[tuple[float, float]]
"""(when, how many seconds it took)."""


class Bystanders:
    """What they see, before the herd and meanwhile."""

    def __init__(self, server: RunningServer, hotels: int) -> None:
        self._server = server
        self._hotels = hotels
        self._herd = Herd(server.port)
        self._herd.delays = []
        self.unanswered = 0
        """Health checks and triggers."""
        self._seen: dict[str, Seen] = {"events": self._herd.delays}

    async def come(self, tasks: asyncio.TaskGroup) -> asyncio.Task[None]:
        """Connect, and look until the task is cancelled."""
        loop = asyncio.get_running_loop()
        for number in range(DEVICES):
            hotel = number * self._hotels // DEVICES
            device = Device(self._herd, self._server.keys, 1_000_000 + number, hotel)
            device.opened = loop.create_future()
            await device.connect()
            await device.opened
        return tasks.create_task(self._look())

    def delays(self, calm_until: float, until: float) -> tuple[dict[str, list[float]], ...]:
        """Return what things took, before and from then on."""
        spans = ((0.0, calm_until), (calm_until, until))
        return tuple(
            {
                name: [took for at, took in seen if begin <= at < end]
                for name, seen in self._seen.items()
            }
            for begin, end in spans
        )

    async def _look(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._again("health checks", self._check))
            tasks.create_task(self._again("HTTP triggers", self._trigger))

    async def _again(self, name: str, look: Callable[[], Awaitable[None]]) -> None:
        seen = self._seen[name] = []
        while True:
            began = time.monotonic()
            try:
                await look()
            except (OSError, asyncio.IncompleteReadError):
                # Of a worker that was killed.
                self.unanswered += 1
            ended = time.monotonic()
            seen.append((ended, ended - began))
            await asyncio.sleep(LOOK_S)

    async def _check(self) -> None:
        await self._request(f"GET /health/ready HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())

    async def _trigger(self) -> None:
        triggers = Triggers(self._server.keys, rooms_channel(QUIET_HOTEL), 100, 1, 1)
        # What the contract makes of it is not what is looked at: an answer is.
        await self._request(signed_request(triggers, f'{{"hotel":"{hotel_slug(0)}"}}'))

    async def _request(self, request: bytes) -> None:
        """Ask over a connection of its own, as a balancer's check does."""
        reader, writer = await asyncio.open_connection(HOST, self._server.port)
        try:
            writer.write(request)
            await reader.readuntil(b"\r\n\r\n")
        finally:
            writer.close()
