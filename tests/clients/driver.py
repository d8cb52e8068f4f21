"""The released pusher-js as tests drive it, wherever it runs, and what it reported."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from tests.harness import APP_KEY, DEADLINE_S, Server, eventually

_NODE_CLIENT: Final = Path(__file__).with_name("pusher_js_client.cjs")
SUCCEEDED: Final = "pusher:subscription_succeeded"
REFUSED: Final = "pusher:subscription_error"


class Wire(Protocol):
    """How commands get to the driver."""

    async def __call__(self, name: str, fields: dict[str, Any]) -> None: ...


@dataclass
class PusherJs:
    """One pusher-js: commands go in, reports come out in the order in which things happened."""

    wire: Wire
    reports: list[dict[str, Any]] = field(default_factory=list)
    _taken: int = 0

    async def tell(self, name: str, **fields: Any) -> None:
        """Send one command of `pusher_js_driver.js`."""
        await self.wire(name, fields)

    async def open(
        self, server: Server, *, key: str = APP_KEY, token: str = "", **given: Any
    ) -> None:
        """Create the Pusher object; ``options`` of pusher-js and ways to authorize as given."""
        options = {
            "cluster": "",
            "wsHost": "127.0.0.1",
            "wsPort": server.port,
            "forceTLS": False,
            "enabledTransports": ["ws"],
            **given.pop("options", {}),
        }
        await self.tell("token", value=token)
        await self.tell("open", key=key, options=options, **given)

    def take(self, report: dict[str, Any]) -> None:
        """Note one report of the driver."""
        self.reports.append(report)

    def seen(self, what: str, **fields: Any) -> list[dict[str, Any]]:
        """Return all reports so far that match."""
        return [report for report in self.reports if _matches(report, what, fields)]

    async def until(self, what: str, within_s: float = DEADLINE_S, **fields: Any) -> dict[str, Any]:
        """Return the next report that matches, passing over others (they stay in ``reports``)."""

        def found() -> dict[str, Any] | None:
            for index in range(self._taken, len(self.reports)):
                if _matches(self.reports[index], what, fields):
                    self._taken = index + 1
                    return self.reports[index]
            return None

        try:
            report: dict[str, Any] = await eventually(found, within_s=within_s)
        except AssertionError:
            said = "\n".join(map(str, self.reports))
            raise AssertionError(f"no {what} {fields} within {within_s} s, but:\n{said}") from None
        return report

    async def subscribed(self, channel: str) -> None:
        """Subscribe, and await the success."""
        await self.tell("subscribe", channel=channel)
        await self.until("event", channel=channel, event=SUCCEEDED)

    async def fence(self) -> None:
        """Await that all that the server sent so far has arrived."""
        await self.tell("ping")
        await self.until("frame", event="pusher:pong")

    async def standing(self) -> dict[str, Any]:
        """Return ``state``, ``socket_id`` and whether it is ``retrying``."""
        await self.tell("standing")
        return await self.until("standing")

    def states(self) -> list[str]:
        """Every state of the connection after the first, which is `connecting`."""
        return [report["current"] for report in self.seen("state")]


def _matches(report: dict[str, Any], what: str, fields: dict[str, Any]) -> bool:
    return report["what"] == what and all(report.get(name) == fields[name] for name in fields)


@asynccontextmanager
async def pusher_js_in_node() -> AsyncIterator[PusherJs]:
    """Run a pusher-js in Node, and hold that nothing was thrown in it."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(_NODE_CLIENT),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1024 * 1024,
    )
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None

    async def send(name: str, fields: dict[str, Any]) -> None:
        stdin.write(json.dumps({"do": name, **fields}).encode() + b"\n")
        await stdin.drain()

    client = PusherJs(send)

    async def read() -> None:
        async for line in stdout:
            client.take(json.loads(line))

    reading = asyncio.create_task(read())
    try:
        yield client
    finally:
        stdin.close()
        assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 0
        await reading
    assert not client.seen("thrown")
