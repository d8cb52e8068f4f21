"""The nodes under test: one, or two behind the same Redis, each before its own half of clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Final

from tests.clients.relay import Relay, relaying
from tests.clients.site import MASTER_KEY, Site
from tests.harness import Server, ended, make_server


class Shape(Enum):
    """How many nodes there are, as the table names it."""

    ONE_NODE = 1
    TWO_NODES = 2


_CONFIG: Final = """
[app]
subscription_count = true
"""


@dataclass(frozen=True)
class Topology:
    """Nodes and the ways to them: consecutive connections go to different nodes."""

    nodes: tuple[Server, ...]
    sockets: Relay
    door: Server
    """Where WebSockets go: the first one to the first node."""
    api: Server
    """Where HTTP goes: the first request to the last node."""

    def backend(self) -> Any:
        """Return the released Python library, pointed at the nodes."""
        return self.api.pusher(encryption_master_key_base64=MASTER_KEY)


def plain_settings(site: Site) -> dict[str, str]:
    """Return settings of a plain Pusher server that has the hotel contract beside."""
    return {
        "BELLHOP_UNLISTED_CHANNELS": "pusher",
        "BELLHOP_REQUIRE_TOKEN": "false",
        "BELLHOP_WEBHOOK_URL": f"{site.url}/hook",
        "BELLHOP_DRAIN_S": "1",
    }


@contextmanager
def nodes_of(shape: Shape, folder: Path, site: Site) -> Iterator[tuple[Server, ...]]:
    """Run the nodes; the first one has the Valkey that the others share."""
    config = folder / "bellhop.toml"
    config.write_text(_CONFIG, "utf-8")
    with ExitStack() as stack:
        nodes: list[Server] = []
        for number in range(shape.value):
            settings = plain_settings(site)
            if nodes:
                settings["REDIS_URL"] = nodes[0].redis_url
            log = folder / f"node-{number}.log"
            node = make_server(log, settings, "--config", str(config))
            stack.enter_context(ended(node))
            node.start()
            nodes.append(node)
        try:
            yield tuple(nodes)
        except AssertionError as error:
            for node in nodes:
                error.add_note(f"{node.log_file.name}:\n{node.log[-20_000:]}")
            raise


@asynccontextmanager
async def topology_of(nodes: tuple[Server, ...]) -> AsyncIterator[Topology]:
    """Put relays before running nodes."""
    ports = [node.port for node in nodes]
    async with relaying(ports) as sockets, relaying(ports, first=len(ports) - 1) as requests:
        door, api = (
            replace(nodes[0], port=relay.port, process=None) for relay in (sockets, requests)
        )
        yield Topology(nodes, sockets, door, api)
