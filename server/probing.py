"""Whether a connection that looks open is alive: it answers a ping, here or on its own node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Protocol

_PROBE_S: Final = 1.0
"""How long a connection has to answer."""


class Probed(Protocol):
    """A session, as its probe sees it."""

    def probe(self) -> None:
        """Have it answer a ping."""


class Probing:
    """Asks connections of this node and of the others, and answers for those of this one."""

    def __init__(
        self,
        node_id: str,
        clients: Mapping[str, Probed],
        tell: Callable[[Mapping[str, str]], None],
    ) -> None:
        """Create the node's part; ``tell`` sends an order to every node."""
        self._node_id = node_id
        self._clients = clients
        self._tell_nodes = tell
        self._asked: set[str] = set()
        """Connections here whose answer another node waits for."""
        self._probed: dict[str, asyncio.Event] = {}
        self.living: frozenset[str] = frozenset()
        self.draining: set[str] = set()
        """Other nodes that are about to stop."""
        """The other nodes that live."""

    def may_live(self, socket_id: str, node_id: str) -> bool:
        """Whether a connection of a node looks open."""
        if node_id == self._node_id:
            return socket_id in self._clients
        return node_id in self.living

    async def is_alive(self, socket_id: str) -> bool:
        """Ask a connection that looks open."""
        probed = self._probed.setdefault(socket_id, asyncio.Event())
        client = self._clients.get(socket_id)
        if client is not None:
            client.probe()
        else:
            self._tell_nodes({"probe": socket_id})
        try:
            async with asyncio.timeout(_PROBE_S):
                await probed.wait()
        except TimeoutError:
            return False
        finally:
            self._probed.pop(socket_id, None)
        return True

    def ask(self, socket_id: str) -> None:
        """Ping a connection of this node for another node, if it is here."""
        client = self._clients.get(socket_id)
        if client is not None:
            self._asked.add(socket_id)
            client.probe()

    def answered(self, socket_id: str) -> None:
        """Learn that a connection of this node has answered a ping."""
        if socket_id in self._asked:
            self._asked.discard(socket_id)
            self._tell_nodes({"alive": socket_id})
        self.lives(socket_id)

    def lives(self, socket_id: str) -> None:
        """Learn that a connection has answered its ping, here or on another node."""
        probed = self._probed.get(socket_id)
        if probed is not None:
            probed.set()

    def ended(self, socket_id: str) -> None:
        """Learn that a connection of this node has ended."""
        self._asked.discard(socket_id)
