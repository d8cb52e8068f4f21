"""A wire between a node and its Redis that a test can cut, or only hold up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Wire:
    """A TCP proxy; nothing passes while it is held up, nobody connects while it is cut."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open = asyncio.Event()
        self._bus_open = asyncio.Event()
        self.let_go()
        self._cut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.held = 0
        """Pieces that are kept, of all connections."""
        self.refused = 0
        """Connections that were ended at once."""

    def cut(self) -> None:
        """End every connection, and each new one at once."""
        self._cut = True
        for writer in list(self._writers):
            writer.transport.abort()

    def mend(self) -> None:
        """Let connections through again."""
        self._cut = False

    def hold_up(self) -> None:
        """Keep what is on its way."""
        self._open.clear()

    def hold_up_bus(self) -> None:
        """Keep what is on its way from Redis to who has subscribed to something there."""
        self._bus_open.clear()

    def let_go(self) -> None:
        """Deliver what was kept, in order."""
        self._open.set()
        self._bus_open.set()

    async def _connected(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        if self._cut:
            self.refused += 1
            back.transport.abort()
            return
        far, there = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {back, there}
        listens = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._ask(near, there, listens))
                tasks.create_task(self._answer(far, back, listens))
        finally:
            for writer in (back, there):
                self._writers.discard(writer)
                writer.transport.abort()

    async def _passage(self) -> None:
        self.held += 1
        await self._open.wait()
        self.held -= 1

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listens: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if b"SUBSCRIBE" in data:
                    listens.set()
                await self._passage()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listens: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._passage()
                if listens.is_set():
                    await self._bus_open.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@contextlib.asynccontextmanager
async def wire_to(port: int) -> AsyncIterator[Wire]:
    """Open a wire to a port of this machine."""
    wire = Wire(port)
    server = await asyncio.start_server(wire._connected, "127.0.0.1", 0)  # noqa: SLF001  its own
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        wire.let_go()
        wire.cut()
        await server.wait_closed()
