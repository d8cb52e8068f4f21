"""Where released clients run, many in one: a process, or a page of a browser."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeVar

from playwright.async_api import Page

from tests.clients.driver import Driven
from tests.harness import DEADLINE_S

NODE: Final = ("node", str(Path(__file__).with_name("node_clients.cjs")))
D = TypeVar("D", bound=Driven)


@dataclass
class Host:
    """Commands go to one of its clients, reports come from one; what is thrown is the host's."""

    send: Callable[[dict[str, Any]], Awaitable[None]]
    thrown: list[str] = field(default_factory=list)
    _clients: dict[int, Driven] = field(default_factory=dict)
    _numbers: count[int] = field(default_factory=count)

    def new(self, kind: str, driven: type[D]) -> D:
        """Return a new client, not yet opened."""
        who = next(self._numbers)

        async def wire(name: str, fields: dict[str, Any]) -> None:
            await self.send({"who": who, "kind": kind, "do": name, **fields})

        client = driven(wire)
        self._clients[who] = client
        return client

    def take(self, report: dict[str, Any]) -> None:
        """Hand a report to the client that it is of."""
        who = report.pop("who", None)
        if who is None:
            self.thrown.append(report["error"])
        else:
            self._clients[who].take(report)


@asynccontextmanager
async def process_host(command: Sequence[str]) -> AsyncIterator[Host]:
    """Run a process that takes commands and gives reports as JSON lines."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1024 * 1024,
    )
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None

    async def send(line: dict[str, Any]) -> None:
        stdin.write(json.dumps(line).encode() + b"\n")
        await stdin.drain()

    host = Host(send)

    async def read() -> None:
        async for line in stdout:
            host.take(json.loads(line))

    reading = asyncio.create_task(read())
    try:
        yield host
    finally:
        stdin.close()
        assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 0
        await reading
    assert not host.thrown


async def page_host(page: Page, url: str) -> Host:
    """Load a page that has `command` and wants `report`."""

    async def send(line: dict[str, Any]) -> None:
        await page.evaluate("line => { command(line); }", line)

    host = Host(send)
    await page.expose_function("report", host.take)
    page.on("pageerror", lambda error: host.thrown.append(str(error)))
    await page.goto(url)
    return host
