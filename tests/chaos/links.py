"""A load balancer before the nodes, and each client's own link to it, which can break.

A link breaks in one of the ways that networks do (`Cut`). What a client dials meanwhile waits for
the link to be mended, as the SYN of TCP does, which is sent again and again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from enum import Enum
from itertools import count
from typing import Final

import httpx

_CHECK_S: Final = 0.25
_DIAL_AGAIN_S: Final = 0.05


class Cut(Enum):
    """What becomes of the connections that a link has when it breaks."""

    RESET = "both ends are told"
    SILENT = "they swallow what is sent, both ways and for ever: nobody is told"
    STALLED = "they keep what is sent, and deliver it when the link is mended"


class Balancer:
    """Knows which nodes are ready, as load balancers do, and gives connections to them in turn."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ports
        self._ready: set[int] = set()
        self._turns = count()

    async def run(self) -> None:
        """Check the nodes until cancelled."""
        async with httpx.AsyncClient(timeout=1.0) as client, asyncio.TaskGroup() as tasks:
            for port in self._ports:
                tasks.create_task(self._check(client, port))

    async def _check(self, client: httpx.AsyncClient, port: int) -> None:
        while True:
            ready = False
            with contextlib.suppress(httpx.TransportError):
                answer = await client.get(f"http://127.0.0.1:{port}/health/ready")
                ready = answer.status_code == httpx.codes.OK
            (self._ready.add if ready else self._ready.discard)(port)
            await asyncio.sleep(_CHECK_S)

    def next(self) -> int | None:
        """Return the port of the node whose turn it is, if any is ready."""
        ready = sorted(self._ready)
        return ready[next(self._turns) % len(ready)] if ready else None

    def failed(self, port: int) -> None:
        """Learn that a node does not take connections."""
        self._ready.discard(port)


class _End(asyncio.Protocol):
    """One end of a wire; what comes in goes out at the other."""

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire
        self.transport: asyncio.Transport | None = None
        self.other: _End | None = None
        self._waiting: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._wire.made(self)

    def data_received(self, data: bytes) -> None:
        if self._wire.silent:
            return
        self._waiting.append(data)
        self.pass_on()

    def pass_on(self) -> None:
        """Send what has come in, if it can go on its way."""
        if self._wire.stalled or self.other is None or self.other.transport is None:
            return
        waiting, self._waiting = self._waiting, []
        if waiting and not self.other.transport.is_closing():
            self.other.transport.write(b"".join(waiting))

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire.lost(self)


class _Wire:
    """One connection of a client, and the one to the node that it was given to."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.near = _End(self)
        self.silent = False
        self.stalled = False
        self._lost: list[_End] = []
        self._dialing: asyncio.Task[None] | None = None

    def made(self, end: _End) -> None:
        """Learn that an end stands; the client's comes first, and the node's is dialed for it."""
        if end is self.near:
            self._link.wires.add(self)
            self._dialing = asyncio.create_task(self._dial())

    async def _dial(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._link.mended.wait()
            port = self._link.balancer.next()
            if port is None:
                await asyncio.sleep(_DIAL_AGAIN_S)
                continue
            try:
                _, far = await loop.create_connection(lambda: _End(self), "127.0.0.1", port)
            except OSError:
                self._link.balancer.failed(port)
                continue
            self.near.other, far.other = far, self.near
            self.near.pass_on()
            far.pass_on()
            return

    def lost(self, end: _End) -> None:
        """Learn that one end is gone: the other is told, unless the wire is cut."""
        self._lost.append(end)
        if self.silent:
            return
        if self.stalled and end.other is not None:
            return
        self.abort()

    def stall(self, *, stalled: bool) -> None:
        """Hold up what is sent, or deliver it."""
        self.stalled = stalled
        if stalled:
            return
        for end in (self.near, self.near.other):
            if end is not None:
                end.pass_on()
        if self._lost:
            self.abort()

    def abort(self) -> None:
        """End both ends."""
        self._link.wires.discard(self)
        if self._dialing is not None:
            self._dialing.cancel()
        for end in (self.near, self.near.other):
            if end is not None and end.transport is not None:
                # What was passed on before still goes out.
                end.transport.close()


class Link:
    """A client's way to the balancer: it dials `port`."""

    def __init__(self, balancer: Balancer) -> None:
        self.balancer = balancer
        self.wires: set[_Wire] = set()
        self.mended = asyncio.Event()
        self.mended.set()
        self.port = 0

    def protocol(self) -> asyncio.Protocol:
        """Return the client's end of a new wire."""
        return _Wire(self).near

    def cut(self, how: Cut) -> None:
        """Break."""
        self.mended.clear()
        for wire in list(self.wires):
            match how:
                case Cut.RESET:
                    if wire.near.other is not None:
                        wire.abort()
                case Cut.SILENT:
                    wire.silent = wire.near.other is not None
                case Cut.STALLED:
                    wire.stall(stalled=True)

    def mend(self) -> None:
        """Let new connections through, and what stalled go on."""
        self.mended.set()
        for wire in list(self.wires):
            if not wire.silent:
                wire.stall(stalled=False)

    def end(self) -> None:
        """End everything."""
        for wire in list(self.wires):
            wire.abort()


@contextlib.asynccontextmanager
async def links(balancer: Balancer, number: int) -> AsyncIterator[list[Link]]:
    """Open as many links around the body."""
    loop = asyncio.get_running_loop()
    opened = [Link(balancer) for _ in range(number)]
    servers: list[asyncio.Server] = []
    try:
        for link in opened:
            server = await loop.create_server(link.protocol, "127.0.0.1", 0)
            servers.append(server)
            link.port = server.sockets[0].getsockname()[1]
        yield opened
    finally:
        _close(servers, opened)


def _close(servers: Iterable[asyncio.Server], opened: Iterable[Link]) -> None:
    for server in servers:
        server.close()
    for link in opened:
        link.end()
