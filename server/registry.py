"""A node among the others: its heartbeat, and the sweep of nodes that have died."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final

import structlog

from server.broker.membership import Membership
from server.errors import BrokerUnavailable
from server.presence import Presence
from server.resuming import Resuming
from server.users import Users

_BEAT_S: Final = 2.0
_COUNT_S: Final = 0.05
"""Seconds between two counts of connections while they come and go."""

log = structlog.get_logger()


class Registry:
    """Beats, notices the dead, and takes away what they left."""

    def __init__(
        self,
        membership: Membership,
        presence: Presence,
        users: Users,
        resuming: Resuming,
        connections: Callable[[], Mapping[str, int]],
    ) -> None:
        """Create a registry; ``connections`` gives this node's open ones by app."""
        self._membership = membership
        self._presence = presence
        self._users = users
        self._resuming = resuming
        self._connections = connections
        self.known = False
        """Whether the other nodes know that this one lives."""
        self._elsewhere: Counter[str] = Counter()
        self._stirred = asyncio.Event()

    async def run(self) -> None:
        """Beat until cancelled."""
        first = True
        while True:
            try:
                self._stirred.clear()
                await self._membership.count(self._connections())
                beat = await self._membership.beat()
                if not beat.known and not first:
                    # Redis has forgotten us, or the others have swept us: everything anew.
                    log.warning("node.unknown", node=self._membership.node_id)
                    self._presence.tell_all()
                    self._users.tell_all()
                    self._resuming.tell_all()
                known_before, self.known, first = self.known, True, False
                self._resuming.probing.living = frozenset(beat.living)
                self._resuming.clock_ms = beat.time_ms - round(time.time() * 1000)
                await self._count_elsewhere(beat.living)
                # After an outage nobody has beaten: the others get until the next beat.
                for node_id in beat.dead if known_before else ():
                    await self._sweep(node_id)
            except BrokerUnavailable:
                self.known = False
            await self._count_for(_BEAT_S if self.known else _BEAT_S / 10)

    def has_others(self) -> bool:
        """Whether another node lives that is not about to stop."""
        return bool(self._resuming.probing.living - self._resuming.probing.draining)

    def stir(self) -> None:
        """Learn that a connection came or went."""
        self._stirred.set()

    async def _count_for(self, seconds: float) -> None:
        """Until the next heartbeat, tell the count of connections whenever it has changed."""
        with suppress(TimeoutError, BrokerUnavailable):
            async with asyncio.timeout(seconds):
                while True:
                    await self._stirred.wait()
                    self._stirred.clear()
                    await self._membership.count(self._connections())
                    await asyncio.sleep(_COUNT_S)

    def connections(self, app_id: str) -> int:
        """Count an app's connections on all nodes; the others' as of the last heartbeat."""
        return self._connections().get(app_id, 0) + self._elsewhere[app_id]

    async def _count_elsewhere(self, living: Iterable[str]) -> None:
        elsewhere: Counter[str] = Counter()
        for node_id in living:
            elsewhere.update(await self._membership.connections(node_id))
        self._elsewhere = elsewhere

    async def leave(self) -> None:
        """Leave the others, having told them of everybody who left."""
        await self._presence.settled()
        await self._users.settled()
        await self._membership.bury(self._membership.node_id)

    async def _sweep(self, node_id: str) -> None:
        membership = self._membership
        if not await membership.claim(node_id):
            return
        channels = await membership.held(node_id, "channels")
        users = await membership.held(node_id, "users")
        for app_id, channel in channels:
            counted = self._presence.is_counted((app_id, channel))
            user_ids: list[str | None] = [None]
            if channel.startswith("presence-"):
                user_ids += await membership.holders(app_id, channel, node_id)
            for user_id in reversed(user_ids):
                departure = await membership.leave(
                    app_id, channel, 0, user_id, counted=counted, node_id=node_id
                )
                self._presence.departed((app_id, channel), user_id, departure)
        for app_id, user_id in users:
            await membership.online(app_id, user_id, 0, node_id=node_id)
        await membership.bury(node_id)
        log.warning("node.swept", node=node_id, channels=len(channels), users=len(users))
