"""Session records: what connections heard, kept for when they are lost.

One hash per identity of a device (`{prefix}session:DIGEST`), with two kinds of fields: `SOCKET
CHANNEL` from the subscribe on, and `SOCKET` once the connection is lost. Until then its last proof
stands with its node (`node:ID:proofs`), which writes those of all its connections together.

What is noted of a device within a few milliseconds leaves together: a page that comes back takes up
several channels at once, and each would be written, forgotten and made to last by itself.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from server.broker.keys import Keys
from server.broker.pipe import Argument, Pipe

_GATHER_S: Final = 0.002
"""For how long notes are gathered."""
_MAX_UNWRITTEN: Final = 100_000
"""Records whose changes may wait for Redis; of more, those that have waited longest are dropped."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A subscription of a connection, as its record tells it; times in ms, by Redis' clock."""

    socket_id: str
    channel: str
    node_id: str
    since_ms: int
    """What came before was proven to be there, or was not the connection's to hear."""
    entered_ms: int
    number: int
    """The channel's sequence when the connection entered it."""
    epoch: str
    taken: bool = False
    """Whether another connection has taken it up already."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of the connections of one identity."""

    heard: tuple[Heard, ...]
    lost: Mapping[str, int]
    """Connections that are known to be lost, and until when (ms) they are proven to have heard."""


class _Changes:
    """What is to be written into one record."""

    __slots__ = ("fields", "lasts")

    def __init__(self) -> None:
        self.fields: dict[str, Argument | None] = {}
        """``None``: the field goes."""
        self.lasts = False
        """Whether the record's life begins anew."""


class SessionRecords:
    """Reads and writes session records; answers come in order of calls."""

    def __init__(self, pipe: Pipe, keys: Keys, node_id: str, *, kept_s: int) -> None:
        """Create the access; ``kept_s`` is how long a lost connection is remembered."""
        self._pipe = pipe
        self._keys = keys
        self._node_id = node_id
        self._kept_s = kept_s
        self._changes: dict[str, _Changes] = {}
        self._unwritten: dict[str, _Changes] = {}
        """What Redis did not take."""

    def read(self, app_id: str, identity: str) -> asyncio.Future[Record]:
        """Return the record of an identity; may raise `BrokerUnavailable`."""
        key = self._key(app_id, identity)
        changes = self._changes.pop(key, None) or self._unwritten.pop(key, None)
        if changes is not None:
            self._write(key, changes)
        return self._pipe.command(("HGETALL", key), _record)

    def note(self, app_id: str, identity: str, heard: Heard) -> None:
        """Note a subscription."""
        changes = self._changes_of(app_id, identity)
        times = f"{heard.since_ms},{heard.entered_ms},{int(heard.taken)}"
        value = f"{times},{heard.number},{heard.epoch},{heard.node_id}"
        changes.fields[f"{heard.socket_id} {heard.channel}"] = value
        changes.lasts = True

    def forget(self, app_id: str, identity: str, socket_id: str, channels: Iterable[str]) -> None:
        """Forget subscriptions that were ended on purpose, or are told as a gap."""
        fields = [f"{socket_id} {channel}" for channel in channels]
        if fields:
            self._changes_of(app_id, identity).fields.update(dict.fromkeys(fields))

    def forget_lost(self, app_id: str, identity: str, socket_ids: Iterable[str]) -> None:
        """Forget lost connections of which no subscription is left."""
        self._changes_of(app_id, identity).fields.update(dict.fromkeys(socket_ids))

    def lose(self, app_id: str, identity: str, socket_id: str, proven_ms: int) -> None:
        """Note that a connection is lost, and until when it is proven to have heard."""
        self._changes_of(app_id, identity).fields[socket_id] = proven_ms

    def prove(self, proofs: Mapping[str, int]) -> None:
        """Write until when (ms) connections of this node are proven to have heard."""
        key = self._keys.node(self._node_id, "proofs")
        self._send("HSET", key, *(part for proof in proofs.items() for part in proof))
        # It outlives the node: that is what it is for.
        self._send("EXPIRE", key, self._kept_s)

    def drop_proofs(self, socket_ids: Iterable[str]) -> None:
        """Forget the proofs of connections that have ended."""
        self._send("HDEL", self._keys.node(self._node_id, "proofs"), *socket_ids)

    def proof(self, node_id: str, socket_id: str) -> asyncio.Future[int]:
        """Return until when a connection is proven to have heard; 0 where nothing is proven."""
        command = ("HGET", self._keys.node(node_id, "proofs"), socket_id)
        return self._pipe.command(command, _proof)

    def write(self) -> None:
        """Send at once what is gathered."""
        written, self._changes = self._changes, {}
        for key, changes in written.items():
            self._write(key, changes)

    def write_again(self) -> None:
        """Write what Redis did not take: without its note, a loss would not be known as one."""
        if self._pipe.ready:
            unwritten, self._unwritten = self._unwritten, {}
            for key, changes in unwritten.items():
                self._write(key, changes)

    def _changes_of(self, app_id: str, identity: str) -> _Changes:
        if not self._changes:
            asyncio.get_running_loop().call_later(_GATHER_S, self.write)
        key = self._key(app_id, identity)
        changes = self._changes.get(key)
        if changes is None:
            # What was not written of it leaves with the rest, unless it is out of date.
            changes = self._changes[key] = self._unwritten.pop(key, _Changes())
        return changes

    def _write(self, key: str, changes: _Changes) -> None:
        fields = changes.fields.items()
        kept = [part for field, value in fields if value is not None for part in (field, value)]
        gone = [field for field, value in fields if value is None]
        commands: list[tuple[Argument, ...]] = []
        if kept:
            commands.append(("HSET", key, *kept))
        if changes.lasts:
            commands.append(("EXPIRE", key, self._kept_s))
        if gone:
            commands.append(("HDEL", key, *gone))
        for command in commands:
            written = self._pipe.command(command, _nothing)
            written.add_done_callback(partial(self._written, key, changes))

    def _written(self, key: str, changes: _Changes, future: asyncio.Future[None]) -> None:
        if future.cancelled() or future.exception() is None:
            return
        newer = self._changes.get(key)
        if newer is not None:
            newer.fields = {**changes.fields, **newer.fields}
            newer.lasts = newer.lasts or changes.lasts
            return
        older = self._unwritten.pop(key, None)
        if older is not None and older is not changes:
            changes.fields = {**older.fields, **changes.fields}
            changes.lasts = changes.lasts or older.lasts
        elif len(self._unwritten) >= _MAX_UNWRITTEN:
            del self._unwritten[next(iter(self._unwritten))]
        self._unwritten[key] = changes

    def _key(self, app_id: str, identity: str) -> str:
        digest = hashlib.sha256(f"{app_id}\n{identity}".encode()).hexdigest()[:32]
        return f"{self._keys.prefix}session:{digest}"

    def _send(self, *command: Argument) -> None:
        self._pipe.command(command, _nothing).add_done_callback(_seen)


def _record(answer: object) -> Record:
    if not isinstance(answer, list):
        raise TypeError("expected a list")
    heard: list[Heard] = []
    lost: dict[str, int] = {}
    for name, value in zip(answer[::2], answer[1::2], strict=True):
        socket_id, _, channel = name.decode().partition(" ")
        if not channel:
            lost[socket_id] = int(value)
            continue
        since, entered, taken, number, epoch, node_id = value.decode().split(",")
        heard.append(
            Heard(
                socket_id=socket_id,
                channel=channel,
                node_id=node_id,
                since_ms=int(since),
                entered_ms=int(entered),
                number=int(number),
                epoch=epoch,
                taken=taken == "1",
            )
        )
    return Record(tuple(heard), lost)


def _proof(answer: object) -> int:
    return int(answer) if isinstance(answer, bytes) else 0


def _nothing(answer: object) -> None:
    del answer


def _seen(future: asyncio.Future[None]) -> None:
    """Look at what became of a note that nobody waits for: without Redis there is no record."""
    if not future.cancelled():
        future.exception()
