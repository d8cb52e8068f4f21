"""Walls: how much one address, one user, one connection and one hotel may ask for.

Pure bookkeeping of one node: the time is asked of a clock that only goes forward. Every limit is a
token bucket, kept as one number: the time at which it is full again (the generic cell rate
algorithm). A bucket that is full again need not be remembered, and what is remembered is bounded,
so that an attacker's many addresses take no more memory than a busy day's.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv6Address
from typing import Final, Generic, TypeVar

MAX_REMEMBERED: Final = 16_384
"""Buckets of one table that are not full."""
_ROUNDING_S: Final = 1e-6
"""What sums of fractions of a second may be off by."""
_PER_CHANNEL: Final = 3
"""Messages by which a page takes a channel up again: resume, subscribe and filter."""
_PATIENCE: Final = 10
"""A client may be refused as many messages as it may send at once, and get this fraction back."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many a second, and so many at once."""

    per_s: float
    """0: no limit."""
    burst: int


@dataclass(frozen=True, slots=True)
class WallLimits:
    """How high the walls are; each limit is one node's."""

    handshakes: Rate = Rate(100, 2_000)
    """Of one address, without a good token."""
    failures: Rate = Rate(20, 1_000)
    """Of one address: handshakes that are turned away."""
    user_handshakes: Rate = Rate(20, 200)
    """Of one user of an app."""
    user_connections: int = 100
    """Open ones of one user of an app; 0: no limit."""
    messages: Rate = Rate(50, 200)
    """Of one connection, beside those by which it takes its channels up."""
    publishes: Rate = Rate(1_000, 100_000)
    """Of one hotel of an app; what has no hotel counts for the app."""


_Key = TypeVar("_Key", bound=Hashable)


class Buckets(Generic[_Key]):
    """Token buckets of one rate, by key."""

    __slots__ = ("_burst", "_depth", "_full_at", "_interval", "_max")

    def __init__(self, rate: Rate, remembered: int = MAX_REMEMBERED) -> None:
        self._interval = 1.0 / rate.per_s if rate.per_s > 0 else 0.0
        self._burst = rate.burst
        self._depth = rate.burst * self._interval + _ROUNDING_S
        self._max = remembered
        self._full_at: OrderedDict[_Key, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def wait_s(self, key: _Key, now: float, count: int = 1) -> float:
        """Return in how many seconds ``count`` tokens are there; 0.0 where they are now.

        More than a bucket holds are there when it is full, or they would never be.
        """
        if not self._interval:
            return 0.0
        start = max(self._full_at.get(key, now), now)
        return max(0.0, start + min(count, self._burst) * self._interval - now - self._depth)

    def take(self, key: _Key, now: float, count: int = 1) -> float:
        """Take tokens and return 0.0, or take none and return what `wait_s` says."""
        if not self._interval:
            return 0.0
        full_at = self._full_at.get(key)
        start = now if full_at is None or full_at < now else full_at
        wait = start + min(count, self._burst) * self._interval - now - self._depth
        if full_at is not None:
            # Whoever goes on asking is remembered, or asking would be the way to be forgotten.
            self._full_at.move_to_end(key)
        if wait > 0.0:
            return wait
        self._full_at[key] = start + count * self._interval
        if full_at is None:
            self._forget(now)
        return 0.0

    def _forget(self, now: float) -> None:
        """Drop, among those that were asked longest ago, the full ones and those too many."""
        while self._full_at:
            key = next(iter(self._full_at))
            if len(self._full_at) <= self._max and self._full_at[key] > now:
                return
            del self._full_at[key]


class Verdict(Enum):
    """What becomes of a client's message."""

    TAKE = auto()
    REFUSE = auto()
    """It is not obeyed; the client is told."""
    END = auto()
    """The connection has gone on and on: it ends."""


class Walls:
    """What one node remembers of those who come."""

    def __init__(
        self, limits: WallLimits = WallLimits(), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._handshakes = Buckets[str](limits.handshakes)
        self._failures = Buckets[str](limits.failures)
        self._user_handshakes = Buckets[tuple[str, str]](limits.user_handshakes)
        self._connections: dict[tuple[str, str], int] = {}
        rate = limits.messages
        self._messages = rate if rate.per_s > 0 else None
        self._refusals = Rate(rate.per_s / _PATIENCE, rate.burst)
        self.counts: Counter[str] = Counter()
        """What stopped at a wall, by which one."""

    def anonymous(self, address: str) -> bool:
        """Count a handshake that does not say who speaks; False where they are too many.

        An empty address is no address: such a peer is not counted.
        """
        return self._passes("handshakes", self._handshakes, address)

    def failed(self, address: str) -> bool:
        """Count a handshake that is turned away; False where they are too many."""
        return self._passes("failures", self._failures, address)

    def visit(self, app_id: str, subscriptions: int = 0) -> Visit:
        """Return the account of a connection that may have so many subscriptions."""
        return Visit(self, app_id, subscriptions)

    def _passes(self, wall: str, buckets: Buckets[str], address: str) -> bool:
        if not address or not buckets.take(_network(address), self._clock()):
            return True
        self.counts[wall] += 1
        return False

    # --- of visits -------------------------------------------------------------------------------

    def _came(self, user: tuple[str, str]) -> str | None:
        """Count a user's connection, or say why there is none for it."""
        most, rate = self._limits.user_connections, self._limits.user_handshakes
        count = self._connections.get(user, 0)
        if most and count >= most:
            self.counts["user_connections"] += 1
            return f"the user has {most} open connections"
        if self._user_handshakes.take(user, self._clock()):
            self.counts["user_handshakes"] += 1
            return f"the user connects more than {rate.per_s:g} times a second"
        self._connections[user] = count + 1
        return None

    def _left(self, user: tuple[str, str]) -> None:
        count = self._connections[user] - 1
        if count:
            self._connections[user] = count
        else:
            del self._connections[user]

    def _judge(self, visit: Visit, message: bytes) -> Verdict:
        rate, now = self._messages, self._clock()
        if rate is None:
            return Verdict.TAKE
        # A page takes up all that it has the moment it is connected.
        if visit.taking_up and _takes_up(message):
            visit.taking_up -= 1
            return Verdict.TAKE
        visit.messages_full_at, fits = _taken(rate, visit.messages_full_at, now)
        if fits:
            return Verdict.TAKE
        self.counts["messages"] += 1
        visit.refusals_full_at, fits = _taken(self._refusals, visit.refusals_full_at, now)
        return Verdict.REFUSE if fits else Verdict.END

    @property
    def messages_per_s(self) -> float:
        """How many messages a second a client may go on sending."""
        return self._limits.messages.per_s


class Visit:
    """One open connection as the walls see it."""

    __slots__ = (
        "_app_id",
        "_user",
        "_walls",
        "messages_full_at",
        "refusals_full_at",
        "taking_up",
    )

    def __init__(self, walls: Walls, app_id: str, subscriptions: int) -> None:
        self._walls = walls
        self._app_id = app_id
        self._user: tuple[str, str] | None = None
        self.messages_full_at = 0.0
        self.refusals_full_at = 0.0
        self.taking_up = subscriptions * _PER_CHANNEL
        """Messages of that kind that are not counted any more."""

    @property
    def named(self) -> bool:
        """Whether it is counted as somebody's."""
        return self._user is not None

    def name(self, user_id: str) -> str | None:
        """Count it as a user's; return why it must end, where it must.

        Who has been named stays so: a connection never changes its user.
        """
        if self._user is not None:
            return None
        user = (self._app_id, user_id)
        reason = self._walls._came(user)  # noqa: SLF001  one thing, in two classes
        if reason is None:
            self._user = user
        return reason

    def message(self, data: bytes = b"") -> Verdict:
        """Count a message of the client's and say what becomes of it."""
        return self._walls._judge(self, data)  # noqa: SLF001  as above

    def left(self) -> None:
        """Note that it has ended."""
        user, self._user = self._user, None
        if user is not None:
            self._walls._left(user)  # noqa: SLF001  as above


class PublishWall:
    """How fast a hotel's backends may publish through this node."""

    def __init__(
        self, rate: Rate = WallLimits().publishes, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._buckets = Buckets[tuple[str, str]](rate)
        self.refused = 0

    def wait_s(self, app_id: str, hotel: str = "", count: int = 1) -> float:
        """Return in how many seconds so many events may be published; 0.0: now. Takes nothing."""
        return self._buckets.wait_s((app_id, hotel), self._clock(), count)

    def take(self, app_id: str, hotel: str = "") -> float:
        """Count one event; where it is too much, count none and return when it is not."""
        wait = self._buckets.take((app_id, hotel), self._clock())
        if wait:
            self.refused += 1
        return wait

    def take_all(self, events: Iterable[tuple[str, str]]) -> tuple[float, tuple[str, str]]:
        """Count events, given as (app id, hotel), all or none; also say whose is too much."""
        now, wanted = self._clock(), Counter(events)
        waits = ((self._buckets.wait_s(key, now, n), key) for key, n in wanted.items())
        wait, whose = max(waits, default=(0.0, ("", "")))
        if wait:
            self.refused += wanted.total()
            return wait, whose
        for key, count in wanted.items():
            self._buckets.take(key, now, count)
        return 0.0, whose

    def reason(self, app_id: str, hotel: str) -> str:
        """Say what is too much."""
        whose = f"the hotel {hotel}" if hotel else f"the app {app_id}"
        return f"{whose} publishes more than {self._rate.per_s:g} events a second"


def _takes_up(message: bytes) -> bool:
    # Anywhere: the order of keys is the library's. Who writes this elsewhere gains little by it.
    return (
        b"pusher:subscribe" in message
        or b"bellhop:resume" in message
        or b"bellhop:filter" in message
    )


def _taken(rate: Rate, full_at: float, now: float) -> tuple[float, bool]:
    """Take one token of a bucket that is kept elsewhere: when it is full then, and whether."""
    following = max(full_at, now) + 1.0 / rate.per_s
    if following - now > rate.burst / rate.per_s + _ROUNDING_S:
        return full_at, False
    return following, True


def _network(address: str) -> str:
    """Return whose an address is: an IPv6 customer has at least the whole /64."""
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address)
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{int(parsed) >> 64:x}::"
