"""Replay for a client that comes back: what it missed, from what it was proven to have received.

A written frame proves nothing, because a half-open socket swallows it; an answered ping does. So
the node notes when each answered ping was sent, and writes that to Redis every few seconds for all
of its connections together. A connection of the same device that comes later takes up every
subscription of those before it which did not say goodbye: what is in the channel's history since
their last proof goes out before anything that is live.

A predecessor that still looks open is asked: where it answers a ping within a second it is alive,
such as another tab, and there is nothing to take up. One of the same page load never is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from server.asking import Asking, Client
from server.broker.records import Heard, Record, SessionRecords
from server.errors import BrokerUnavailable
from server.history import Carried, ChannelHistory, Known
from server.pasts import KEPT_S, Pasts
from server.probing import Probing
from server.protocol.commands import Resume
from server.protocol.identity import EXCLUSIVE
from server.protocol.presence import GapReason, Past

_WRITE_S: Final = 2.0
"""Seconds between two writings of proofs."""
_MARGIN_MS: Final = 1_000
_RETRY_S: Final = 0.25
T = TypeVar("T")
_LOST_EPOCH: Final = "lost"
"""No channel's: stands for one that Redis has forgotten."""


class Resuming:
    """The part of one node: proofs, records, and what returning subscribers missed."""

    def __init__(
        self,
        records: SessionRecords,
        history: ChannelHistory,
        *,
        node_id: str,
        clients: Mapping[str, Client],
        tell: Callable[[Mapping[str, str]], None],
    ) -> None:
        """Create the node's part.

        Args:
            records: of connections.
            history: of channels.
            node_id: this node's.
            clients: its live sessions by socket id.
            tell: sends an order to every node.

        """
        self._records = records
        self._history = history
        self._node_id = node_id
        self._clients = clients
        self.probing = Probing(node_id, clients, tell)
        self._proofs: dict[str, int] = {}
        self._ended: list[str] = []
        self._identities: dict[str, tuple[str, str]] = {}
        """(app's id, identity) of this node's connections that have a record."""
        self._pasts = Pasts()
        self._jobs: asyncio.Queue[Coroutine[Any, Any, None]] = asyncio.Queue()
        self.clock_ms = 0
        """What Redis' clock is ahead of this node's."""
        self.replayed = 0
        """Events replayed, ever."""
        self.gaps = 0

    # --- a connection's life ---------------------------------------------------------------------

    def enter(self, asking: Asking) -> None:
        """Find out what a subscriber missed; it is told at once, or later."""
        identity = asking.client.identity
        if asking.after is not None:
            self._start(self._after_number(asking, asking.after))
        elif identity is None:
            asking.told.told(Past())
        else:
            past = self._pasts.known((asking.client.socket_id, identity))
            if past is not None and asking.channel not in past:
                self._begin(asking, identity)
            else:
                self._start(self._return(asking, identity))

    def recall(self, askings: Sequence[Asking], identity: str) -> None:
        """Find out what a client missed on channels that it entered under another identity.

        Its own live events are held back meanwhile.
        """
        socket_id = askings[0].client.socket_id
        known = self._identities.get(socket_id)
        if known is not None:
            self._identities[socket_id] = (known[0], identity)
        self._start(self._recall(askings, identity, known))

    def proved(self, client: Client) -> None:
        """Note that a client has answered a ping."""
        if self._name(client) is not None and client.proven_at is not None:
            self._proofs[client.socket_id] = self._to_redis(client.proven_at)
        self.probing.answered(client.socket_id)

    def left(self, client: Client, channel: str) -> None:
        """Note that a client has unsubscribed."""
        known = self._identities.get(client.socket_id)
        if known is not None:
            self._records.forget(*known, client.socket_id, [channel])

    def ended(self, client: Client, channels: Iterable[str], *, goodbye: bool) -> None:
        """Note that a connection has ended: with a goodbye, or lost."""
        known = self._name(client)
        if known is None:
            return
        del self._identities[client.socket_id]
        self._proofs.pop(client.socket_id, None)
        self.probing.ended(client.socket_id)
        self._ended.append(client.socket_id)
        if goodbye:
            self._records.forget(*known, client.socket_id, channels)
        else:
            proven = self._to_redis(client.proven_at) if client.proven_at is not None else 0
            self._records.lose(*known, client.socket_id, proven)

    def tell_all(self) -> None:
        """Note every connection of this node again where Redis has forgotten it."""
        self._start(self._note_again())

    async def run(self) -> None:
        """Look up pasts and write proofs, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write())
            tasks.create_task(self._age())
            while True:
                tasks.create_task(await self._jobs.get())

    def _start(self, job: Coroutine[Any, Any, None]) -> None:
        self._jobs.put_nowait(job)

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(_WRITE_S)
            self._records.write_again()
            proofs, self._proofs = self._proofs, {}
            ended, self._ended = self._ended, []
            if proofs:
                self._records.prove(proofs)
            if ended:
                self._records.drop_proofs(ended)

    async def _age(self) -> None:
        while True:
            await asyncio.sleep(KEPT_S)
            self._pasts.age()

    def _to_redis(self, at: float) -> int:
        return round(at * 1000) + self.clock_ms

    # --- the past --------------------------------------------------------------------------------

    async def _after_number(self, asking: Asking, after: Resume) -> None:
        """Tell what came after the event that the client itself names."""
        carried = await self._carried(asking, 0)
        gap = self._history.gap_by_number(after.epoch, after.sequence, carried)
        since = after.sequence if after.epoch == carried.epoch else 0
        self._tell(asking, carried, gap, first=since + 1)
        if asking.client.identity is not None:
            self._note(asking, asking.client.identity, asking.entered.time_ms)

    async def _return(self, asking: Asking, identity: str) -> None:
        lost = self._lost(asking, await self._past_of(asking.client, identity))
        if lost:
            await self._take_up(asking, identity, lost)
        else:
            self._begin(asking, identity)

    async def _recall(
        self, askings: Sequence[Asking], identity: str, known: tuple[str, str] | None
    ) -> None:
        client = askings[0].client
        if known is not None and known[1] != identity:
            await self._rename(client.socket_id, *known, identity)
        past = await self._past_of(client, identity)
        taking = []
        for asking in askings:
            lost = self._lost(asking, past)
            if lost:
                taking.append(self._take_up(asking, identity, lost))
            elif known is None:
                self._begin(asking, identity)
            else:
                asking.told.told(Past())
        await asyncio.gather(*taking)

    async def _past_of(self, client: Client, identity: str) -> dict[str, list[Heard]]:
        return await self._pasts.of(
            (client.socket_id, identity), lambda: self._looked_up(client, identity)
        )

    def _lost(self, asking: Asking, past: dict[str, list[Heard]]) -> list[Heard]:
        """Take out of a past what is to be taken up on a channel."""
        now_ms = self._to_redis(time.time())
        found = past.pop(asking.channel, [])
        return [heard for heard in found if not self._is_done_with(heard, now_ms)]

    async def _take_up(self, asking: Asking, identity: str, lost: Sequence[Heard]) -> None:
        client, told_ms = asking.client, asking.told_ms
        heard = min(lost, key=lambda each: each.since_ms)
        since = heard.since_ms
        gap = carried = None
        if told_ms is not None and told_ms <= since:
            self._note(asking, identity, told_ms or asking.entered.time_ms)
        else:
            # A proof from before it was told says nothing of what it is told.
            self._note(asking, identity, since, self._to_redis(time.time()))
            carried = await self._carried(asking, since)
            known = Known(since, heard.number, heard.epoch or asking.entered.epoch)
            # Only now: what was still to be had before may have gone out of the history meanwhile.
            read_ms = self._to_redis(time.time())
            gap = self._history.gap_by_time(known, carried.as_of(asking.entered), read_ms)
        for each in lost:
            if identity.startswith(EXCLUSIVE) or (gap is not None and each is heard):
                # Told once: the next return begins here.
                self._records.forget(client.app_id, identity, each.socket_id, [asking.channel])
            else:
                # Another tab of the same person may be the one that was lost.
                self._records.note(client.app_id, identity, replace(each, taken=True))
        if carried is None:
            asking.told.told(Past())
        else:
            self._tell(asking, carried, gap, since_ms=since, exclude=heard.socket_id)

    def _is_done_with(self, heard: Heard, now_ms: int) -> bool:
        """Whether a lost subscription was taken up already, and is too old for anybody else."""
        return heard.taken and heard.since_ms < now_ms - self._history.seconds * 1000

    def _begin(self, asking: Asking, identity: str) -> None:
        """Let a subscription begin that has no past."""
        self._note(asking, identity, asking.entered.time_ms)
        asking.told.told(Past())

    def _tell(
        self,
        asking: Asking,
        carried: Carried,
        gap: GapReason | None,
        *,
        first: int = 1,
        since_ms: int | None = None,
        exclude: str | None = None,
    ) -> None:
        """Tell what a channel carried; ``exclude`` is the socket that the client had then."""
        frames = asking.missed(carried.messages, first, exclude)
        if frames and asking.has_newer:
            frames, gap = (), gap or GapReason.IDENTIFIED_LATE
        self.replayed += len(frames)
        self.gaps += gap is not None
        asking.told.told(Past(frames, gap, since_ms))

    # --- notes -----------------------------------------------------------------------------------

    def _note(
        self, asking: Asking, identity: str, since_ms: int, entered_ms: int | None = None
    ) -> None:
        client, entered = asking.client, asking.entered
        if client.socket_id in self._clients:
            identity = self._identities.setdefault(client.socket_id, (client.app_id, identity))[1]
        heard = Heard(
            client.socket_id,
            asking.channel,
            self._node_id,
            since_ms,
            entered.time_ms if entered_ms is None else entered_ms,
            entered.number,
            entered.epoch,
        )
        self._records.note(client.app_id, identity, heard)

    def _name(self, client: Client) -> tuple[str, str] | None:
        """Return under what a connection is noted: a fresh token may have given it another name."""
        known, identity = self._identities.get(client.socket_id), client.identity
        if known is None or identity is None or known[1] == identity:
            return known
        self._start(self._rename(client.socket_id, *known, identity))
        named = self._identities[client.socket_id] = (client.app_id, identity)
        return named

    async def _rename(self, socket_id: str, app_id: str, before: str, identity: str) -> None:
        record = await self._read(app_id, before)
        mine = [heard for heard in record.heard if heard.socket_id == socket_id]
        for heard in mine:
            self._records.note(app_id, identity, heard)
        self._records.forget(app_id, before, socket_id, [heard.channel for heard in mine])

    async def _note_again(self) -> None:
        """Write what Redis has lost; what these had to be told of it may be lost as well."""
        for socket_id, (app_id, identity) in list(self._identities.items()):
            record = await self._read(app_id, identity)
            client = self._clients.get(socket_id)
            if client is None or any(heard.socket_id == socket_id for heard in record.heard):
                continue
            at = client.proven_at
            since = self._to_redis(at if at is not None else time.time()) - _MARGIN_MS
            for channel in client.channels:
                heard = Heard(socket_id, channel, self._node_id, since, since, 1, _LOST_EPOCH)
                self._records.note(app_id, identity, heard)

    async def _read(self, app_id: str, identity: str) -> Record:
        return await _patiently(lambda: self._records.read(app_id, identity))

    async def _proof(self, node_id: str, socket_id: str) -> int:
        return await _patiently(lambda: self._records.proof(node_id, socket_id))

    async def _carried(self, asking: Asking, since_ms: int) -> Carried:
        app_id, channel = asking.client.app_id, asking.channel
        return await _patiently(
            lambda: self._history.before(app_id, channel, since_ms, asking.entered)
        )

    # --- predecessors ----------------------------------------------------------------------------

    async def _looked_up(self, client: Client, identity: str) -> dict[str, list[Heard]]:
        """Find out what a connection may take up, by channel."""
        record = await self._read(client.app_id, identity)
        others = [heard for heard in record.heard if heard.socket_id != client.socket_id]
        proofs = await self._proven(others, record, identity)
        self._prune(client.app_id, identity, record)
        pasts: dict[str, list[Heard]] = {}
        for heard in others:
            proven = proofs.get(heard.socket_id)
            if proven is None:
                continue
            # A proof from before it entered the channel says nothing of the channel.
            since = heard.since_ms
            if proven - _MARGIN_MS > heard.entered_ms:
                since = max(since, proven - _MARGIN_MS)
            pasts.setdefault(heard.channel, []).append(replace(heard, since_ms=since))
        return pasts

    def _prune(self, app_id: str, identity: str, record: Record) -> None:
        """Forget what nobody needs any more: a device that comes every day keeps its record."""
        now_ms = self._to_redis(time.time())
        of_use = set()
        for heard in record.heard:
            if self._is_done_with(heard, now_ms):
                self._records.forget(app_id, identity, heard.socket_id, [heard.channel])
            else:
                of_use.add(heard.socket_id)
        useless = [socket_id for socket_id in record.lost if socket_id not in of_use]
        if useless:
            self._records.forget_lost(app_id, identity, useless)

    async def _proven(
        self, others: Iterable[Heard], record: Record, identity: str
    ) -> Mapping[str, int]:
        """Return until when each lost connection is proven to have heard."""
        proofs: dict[str, int] = {}
        looking: dict[str, str] = {}
        for heard in others:
            if heard.socket_id in record.lost:
                proofs[heard.socket_id] = record.lost[heard.socket_id]
            else:
                looking[heard.socket_id] = heard.node_id
        asked = [
            socket_id
            for socket_id, node_id in looking.items()
            if self.probing.may_live(socket_id, node_id) and not identity.startswith(EXCLUSIVE)
        ]
        answers = await asyncio.gather(*map(self.probing.is_alive, asked))
        alive = {socket_id for socket_id, lives in zip(asked, answers, strict=True) if lives}
        for socket_id, node_id in looking.items():
            if socket_id not in alive:
                proofs[socket_id] = await self._proof(node_id, socket_id)
        return proofs


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask Redis until it answers: nothing may be told before."""
    while True:
        try:
            return await ask()
        except BrokerUnavailable:
            await asyncio.sleep(_RETRY_S)
