"""Who is where, as the nodes write it into Redis.

Every node sets its own figures and never counts another's up or down, so that nothing can stick:
what a dead node left behind is taken away by whoever notices first, once (`leave.lua`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from channels_spec.pusher import SERVER_TO_USER_PREFIX
from channels_spec.views import PLAIN_VIEW
from server.broker.keys import Keys
from server.broker.message import Announcement, Kind, MalformedMessage, decode
from server.broker.pipe import Argument, Pipe
from server.protocol import frames
from server.protocol.presence import Entered, Member

DEAD_AFTER_S: Final = 10
"""Seconds without a heartbeat after which a node counts as dead."""
_IDLE_S: Final = 86_400
_APPS_S: Final = 60
_SWEEP_S: Final = 30


@dataclass(frozen=True, slots=True)
class Entry:
    """Sockets of this node enter a channel."""

    app_id: str
    channel: str
    sockets: int
    """How many of this node are subscribed now."""
    member: Member | None = None
    members_allowed: int = 0
    socket_id: str = ""
    """Whom `member_added` does not go to."""
    counted: bool = False
    """Whether subscribers are told how many they are."""
    recount: bool = False
    """Tell them, even if nothing changed."""
    cached: bool = False
    """Whether the channel's cached event is wanted."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What the broker did with an `Entry`."""

    entered: Entered
    sockets: int
    """Of all nodes."""
    occupied: bool
    """The channel had no subscriber before."""
    member_added: bool
    count_is_due: bool
    """Subscribers were told their count just now: tell them again later."""
    at_us: int = field(default=0, compare=False)
    """When, by Redis' clock."""


@dataclass(frozen=True, slots=True)
class Departure:
    """What the broker did with sockets that left."""

    sockets: int
    vacated: bool
    member_removed: bool
    count_is_due: bool
    at_us: int = field(default=0, compare=False)
    """When, by Redis' clock."""


@dataclass(frozen=True, slots=True)
class Beat:
    """What a node learns of the others."""

    known: bool
    """Whether the others knew that this node lives."""
    living: list[str]
    """Ids of the other nodes that live."""
    dead: list[str]
    """Ids of those that do not, and are not swept yet."""
    time_ms: int
    """Redis' clock."""


class Membership:
    """Calls the scripts that count sockets, members and users; answers come in order of calls."""

    def __init__(self, pipe: Pipe, keys: Keys, node_id: str) -> None:
        self._pipe = pipe
        self._keys = keys
        self.node_id = node_id

    @property
    def ready(self) -> bool:
        """Whether Redis can be asked."""
        return self._pipe.ready

    # --- channels --------------------------------------------------------------------------------

    def enter(self, entry: Entry) -> asyncio.Future[Admission | None]:
        """Let sockets in; ``None`` where the roster is full. May raise `BrokerUnavailable`."""
        base = self._keys.channel(entry.app_id, entry.channel)
        member = entry.member
        header, frame = b"", b""
        if member is not None:
            added = Announcement(
                Kind.ROSTER, frames.member_added(entry.channel, member), entry.socket_id
            )
            header, frame = added.static_header(), added.frame
        asked = "r" * (member is not None) + "c" * entry.cached + "n" * entry.recount
        return self._pipe.script(
            "enter",
            (base, *(f"{base}:{name}" for name in _ENTER_KEYS)),
            (
                self.node_id,
                entry.sockets,
                member.user_id if member is not None else "",
                member.user_info if member is not None else b"",
                entry.members_allowed,
                header,
                frame,
                asked,
                *_count(entry.channel, counted=entry.counted),
                _IDLE_S,
            ),
            _admission,
        )

    def leave(
        self,
        app_id: str,
        channel: str,
        sockets: int,
        user_id: str | None = None,
        *,
        counted: bool = False,
        node_id: str | None = None,
    ) -> asyncio.Future[Departure]:
        """Tell how many sockets stay, and of which user none does. May raise `BrokerUnavailable`.

        ``node_id`` is that of a dead node which left this behind.
        """
        base = self._keys.channel(app_id, channel)
        header, frame = b"", b""
        if user_id is not None:
            removed = Announcement(Kind.ROSTER, frames.member_removed(channel, user_id))
            header, frame = removed.static_header(), removed.frame
        return self._pipe.script(
            "leave",
            (base, *(f"{base}:{name}" for name in _LEAVE_KEYS)),
            (
                node_id or self.node_id,
                sockets,
                user_id or "",
                header,
                frame,
                *_count(channel, counted=counted),
                _IDLE_S,
            ),
            _departure,
        )

    def note(self, what: str, app_id: str, name: str) -> asyncio.Future[None]:
        """Write down that this node holds something of a channel (or a user), before it does."""
        key = self._keys.node(self.node_id, what)
        return self._pipe.command(("HSET", key, f"{app_id}:{name}", 1), _nothing)

    def forget(self, what: str, app_id: str, name: str) -> asyncio.Future[None]:
        """Write down that this node holds nothing of it any more, after that is so."""
        key = self._keys.node(self.node_id, what)
        return self._pipe.command(("HDEL", key, f"{app_id}:{name}"), _nothing)

    # --- users -----------------------------------------------------------------------------------

    def online(
        self, app_id: str, user_id: str, sockets: int, node_id: str | None = None
    ) -> asyncio.Future[None]:
        """Tell how many sockets are signed in as a user."""
        arguments: list[Argument] = [node_id or self.node_id, sockets]
        for frame in (
            frames.watchlist_events([user_id], []),
            frames.watchlist_events([], [user_id]),
        ):
            arguments += (Announcement(Kind.USER_STATUS, frame).static_header(), frame)
        channel = SERVER_TO_USER_PREFIX + user_id
        return self._pipe.script(
            "online",
            (self._keys.online(app_id, user_id), self._keys.bus(app_id, channel)),
            arguments,
            _nothing,
        )

    def is_online(self, app_id: str, user_id: str) -> asyncio.Future[bool]:
        """Ask whether a user is signed in anywhere."""
        return self._pipe.command(("EXISTS", self._keys.online(app_id, user_id)), bool)

    # --- nodes -----------------------------------------------------------------------------------

    def count(self, connections: Mapping[str, int]) -> asyncio.Future[None]:
        """Say how many connections each app has on this node."""
        key = self._keys.node(self.node_id, "apps")
        pairs = [part for pair in connections.items() for part in pair]
        counted = self._pipe.command(("HSET", key, *pairs), _nothing)
        self._pipe.command(("EXPIRE", key, _APPS_S), _nothing).add_done_callback(_seen)
        return counted

    def beat(self) -> asyncio.Future[Beat]:
        """Say that this node lives."""
        return self._pipe.script(
            "beat", (self._keys.nodes,), (self.node_id, DEAD_AFTER_S * 1000), _beaten
        )

    def connections(self, node_id: str) -> asyncio.Future[dict[str, int]]:
        """Return how many connections each app has on a node."""

        def read(answer: object) -> dict[str, int]:
            flat = _list(answer)
            return {
                app_id.decode(): int(count)
                for app_id, count in zip(flat[::2], flat[1::2], strict=True)
            }

        return self._pipe.command(("HGETALL", self._keys.node(node_id, "apps")), read)

    def claim(self, node_id: str) -> asyncio.Future[bool]:
        """Take on the sweep of a dead node; False where another node has."""
        key = self._keys.node(node_id, "sweep")
        command: tuple[Argument, ...] = ("SET", key, self.node_id, "NX", "EX", _SWEEP_S)
        return self._pipe.command(command, lambda answer: answer is not None)

    def held(self, node_id: str, what: str) -> asyncio.Future[list[tuple[str, str]]]:
        """Return the (app's id, channel or user) of what a node holds."""
        return self._pipe.command(("HKEYS", self._keys.node(node_id, what)), _pairs)

    def holders(self, app_id: str, channel: str, node_id: str) -> asyncio.Future[list[str]]:
        """Return the ids of the users whom a node brought to a presence channel."""
        key = f"{self._keys.channel(app_id, channel)}:holders"

        def read(answer: object) -> list[str]:
            flat = [part.decode() for part in _list(answer)]
            pairs = zip(flat[::2], flat[1::2], strict=True)
            return [user_id for user_id, nodes in pairs if node_id in nodes.split(",")]

        return self._pipe.command(("HGETALL", key), read)

    def bury(self, node_id: str) -> asyncio.Future[None]:
        """Forget a node of which nothing is left."""
        lists = [self._keys.node(node_id, what) for what in ("channels", "users", "apps", "sweep")]
        for key in lists:
            self._pipe.command(("DEL", key), _nothing).add_done_callback(_seen)
        return self._pipe.command(("ZREM", self._keys.nodes, node_id), _nothing)


_ENTER_KEYS: Final = ("sockets", "members", "holders", "cache", "bus", "counted")
_LEAVE_KEYS: Final = ("sockets", "members", "holders", "bus", "counted")


def _count(channel: str, *, counted: bool) -> tuple[bytes, bytes]:
    if not counted:
        return b"", b""
    beginning = frames.subscription_count_beginning(channel)
    return Announcement(Kind.COUNT, beginning).static_header(), beginning


def _seen(future: asyncio.Future[None]) -> None:
    """Look at what became of a command that nobody waits for: the next one tells as much."""
    if not future.cancelled():
        future.exception()


def _nothing(answer: object) -> None:
    del answer


def _list(answer: object) -> list[bytes]:
    if not isinstance(answer, list):
        raise TypeError("expected a list")
    return answer


def _pairs(answer: object) -> list[tuple[str, str]]:
    found = (part.decode().partition(":") for part in _list(answer))
    return [(app_id, name) for app_id, _, name in found]


def _beaten(answer: object) -> Beat:
    match answer:
        case [int(known), list(living), list(dead), int(time_ms)]:
            names = [[node.decode() for node in nodes] for nodes in (living, dead)]
            return Beat(known == 1, names[0], names[1], time_ms)
        case _:
            raise TypeError("expected a heartbeat's answer")


def _admission(answer: object) -> Admission | None:
    match answer:
        case [0]:
            return None
        case [
            1,
            occupied,
            int(sockets),
            added,
            later,
            int(number),
            bytes(epoch),
            int(version),
            list(roster),
            bytes(cached),
            int(time_us),
            int(last_ms),
        ]:
            entered = Entered(
                number,
                epoch.decode(),
                version,
                _roster(roster),
                _cached(cached),
                time_us // 1000,
                last_ms,
            )
            return Admission(entered, sockets, occupied == 1, added == 1, later == 1, time_us)
        case _:
            raise TypeError("expected an admission")


def _departure(answer: object) -> Departure:
    match answer:
        case [int(vacated), int(sockets), int(removed), int(later), int(time_us)]:
            return Departure(sockets, vacated == 1, removed == 1, later == 1, time_us)
        case _:
            raise TypeError("expected a departure")


def _roster(flat: list[bytes]) -> tuple[Member, ...]:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return tuple(Member(user_id.decode(), info) for user_id, info in pairs)


def _cached(message: bytes) -> bytes | None:
    if not message:
        return None
    try:
        return decode(message).frames.get(PLAIN_VIEW)
    except MalformedMessage:
        return None
