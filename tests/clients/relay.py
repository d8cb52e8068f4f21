"""A load balancer before the nodes: each connection goes to the next one, and all can be cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from itertools import count

from tests.harness import DEADLINE_S

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Relay:
    """Passes bytes on; a node that does not answer is passed over, and waited for."""

    def __init__(self, ports: Sequence[int], first: int = 0) -> None:
        """Create a relay whose first connection goes to the port at ``first``."""
        self._ports = ports
        self._turns = count(first)
        self._clients: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self.port = 0

    def cut(self) -> None:
        """Cut every connection as a broken network does: without a word."""
        for client in list(self._clients):
            client.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on, until either side ends it."""
        self._clients.add(writer)
        try:
            node_reader, node_writer = await self._dial()
            there = asyncio.create_task(_pump(reader, node_writer))
            back = asyncio.create_task(_pump(node_reader, writer))
            await asyncio.wait((there, back))
        finally:
            self._clients.discard(writer)
            writer.transport.abort()

    async def _dial(self) -> Streams:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                turn = next(self._turns)
                for other in range(len(self._ports)):
                    port = self._ports[(turn + other) % len(self._ports)]
                    with contextlib.suppress(OSError):
                        return await asyncio.open_connection("127.0.0.1", port)
                await asyncio.sleep(0.02)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while received := await reader.read(65_536):
            writer.write(received)
            await writer.drain()
    # What ended on one side ends on the other.
    with contextlib.suppress(OSError):
        writer.close()


@contextlib.asynccontextmanager
async def relaying(ports: Sequence[int], first: int = 0) -> AsyncIterator[Relay]:
    """Run a relay around the body."""
    relay = Relay(ports, first)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        relay.cut()
