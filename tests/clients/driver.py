"""Released clients as tests drive them, wherever they run, and what they reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from uuid import uuid4

from tests.harness import APP_KEY, DEADLINE_S, Server, eventually, token

SUCCEEDED: Final = "pusher:subscription_succeeded"
REFUSED: Final = "pusher:subscription_error"


class Wire(Protocol):
    """How commands get to the driver."""

    async def __call__(self, name: str, fields: dict[str, Any]) -> None: ...


@dataclass
class Driven:
    """One client: commands go in, reports come out in the order in which things happened."""

    wire: Wire
    reports: list[dict[str, Any]] = field(default_factory=list)
    _taken: int = 0

    async def tell(self, name: str, **fields: Any) -> None:
        """Send one command of the client's driver; they are those of `pusher_js_driver.js`."""
        await self.wire(name, fields)

    def take(self, report: dict[str, Any]) -> None:
        """Note one report of the driver."""
        self.reports.append(report)

    def seen(self, what: str, **fields: Any) -> list[dict[str, Any]]:
        """Return all reports so far that match."""
        return [report for report in list(self.reports) if _matches(report, what, fields)]

    async def until(self, what: str, within_s: float = DEADLINE_S, **fields: Any) -> dict[str, Any]:
        """Return the next report that matches, passing over others (they stay in ``reports``)."""

        def found() -> dict[str, Any] | None:
            for index in range(self._taken, len(self.reports)):
                if _matches(self.reports[index], what, fields):
                    self._taken = index + 1
                    return self.reports[index]
            return None

        report: dict[str, Any] = await self._awaited(found, f"{what} {fields}", within_s)
        return report

    async def has(self, count: int, what: str, within_s: float = DEADLINE_S, **fields: Any) -> None:
        """Await that as many reports in all match, in whatever order they came."""
        wanted = f"{count} x {what} {fields}"
        await self._awaited(lambda: len(self.seen(what, **fields)) >= count, wanted, within_s)
        assert len(self.seen(what, **fields)) == count, self.seen(what, **fields)

    async def _awaited(self, condition: Callable[[], Any], wanted: str, within_s: float) -> Any:
        try:
            return await eventually(condition, within_s=within_s)
        except AssertionError:
            said = "\n".join(map(str, self.reports))
            raise AssertionError(f"no {wanted} within {within_s} s, but:\n{said}") from None

    async def subscribed(self, channel: str, *events: str) -> None:
        """Subscribe, and await the success; ``events`` are bound by name."""
        await self.tell("subscribe", channel=channel, events=events)
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


@dataclass
class PusherJs(Driven):
    """One pusher-js."""

    async def open(
        self, server: Server, *, key: str = APP_KEY, token: str = "", **given: Any
    ) -> None:
        """Create the Pusher object; ``options`` of pusher-js and ways to authorize as given."""
        options = {**websocket_options(server.port), **given.pop("options", {})}
        await self.tell("token", value=token)
        await self.tell("open", key=key, options=options, **given)


def own_token(sub: str = "staff-1", **claims: Any) -> str:
    """Return a token of a device of its own: it takes up nothing that another test missed."""
    return token(sub, **{"jti": uuid4().hex, **claims})


def websocket_options(port: int) -> dict[str, Any]:
    """Return the options of pusher-js that point it here."""
    return {
        "cluster": "",
        "wsHost": "127.0.0.1",
        "wsPort": port,
        "forceTLS": False,
        "enabledTransports": ["ws"],
    }


def fallback_options(port: int, transport: str, path: str = "") -> dict[str, Any]:
    """Return the options of pusher-js that point one of its HTTP fallbacks here."""
    return {
        "cluster": "",
        "httpHost": "127.0.0.1",
        "httpPort": port,
        "httpPath": f"/pusher{path}",
        "forceTLS": False,
        "enabledTransports": [transport],
    }


def _matches(report: dict[str, Any], what: str, fields: dict[str, Any]) -> bool:
    return report["what"] == what and all(report.get(name) == fields[name] for name in fields)
