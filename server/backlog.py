"""What was taken from the durable entrance and may not go out yet, because a hotel is at its wall.

Only that hotel waits. But a hotel's events keep their order, and so do a channel's, which may carry
the events of several hotels: an event waits behind the earlier ones of both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from server.broker.message import Publication

_MOST: Final = 10_000
_MOST_BYTES: Final = 32 * 1024 * 1024
_LONGEST_WAIT_S: Final = 1.0
_SOME: Final = 50
_SOON_S: Final = 0.05
"""So many go out together where that takes no longer: each time is a few round trips."""

E = TypeVar("E")


@dataclass(frozen=True, slots=True, eq=False)
class Held(Generic[E]):
    """An event, and the entry that it came as."""

    entry: E
    publication: Publication

    @property
    def hotel(self) -> tuple[str, str]:
        """Whose wall counts it."""
        return self.publication.app_id, self.publication.hotel_slug

    @property
    def channel(self) -> tuple[str, str]:
        """Where it is numbered."""
        return self.publication.app_id, self.publication.channel

    @property
    def size(self) -> int:
        """Bytes, about."""
        return sum(len(frame.head) + len(frame.tail) for frame in self.publication.frames)


_Lines = dict[tuple[str, str], deque[Held[E]]]


class Backlog(Generic[E]):
    """Events that wait, each in the line of its hotel and in that of its channel."""

    def __init__(
        self,
        wait_s: Callable[[Publication, int], float],
        *,
        most: int = _MOST,
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        """Create it; ``wait_s`` says in how many seconds the wall lets so many events pass."""
        self._wait_s = wait_s
        self._most = most
        self._most_bytes = most_bytes
        self._hotels: _Lines[E] = {}
        self._channels: _Lines[E] = {}
        self._count = 0
        self._bytes = 0

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        """Whether nothing should be added that can be left where it is."""
        return self._count >= self._most or self._bytes >= self._most_bytes

    def clear(self) -> None:
        """Forget everything."""
        self._hotels.clear()
        self._channels.clear()
        self._count = self._bytes = 0

    def before(self, held: Held[E]) -> bool:
        """Whether anything waits that must go out earlier."""
        return held.hotel in self._hotels or held.channel in self._channels

    def put(self, held: Held[E]) -> None:
        """Let an event wait, behind all that are here."""
        self._hotels.setdefault(held.hotel, deque()).append(held)
        self._channels.setdefault(held.channel, deque()).append(held)
        self._count += 1
        self._bytes += held.size

    def take(self, passes: Callable[[Publication], bool], most: int) -> list[Held[E]]:
        """Return those that go out now, in order; ``passes`` counts one, or says that it waits."""
        going: list[Held[E]] = []
        before = -1
        # What goes may have been all that a hotel waited for which was looked at already.
        while before < len(going):
            before = len(going)
            for line in list(self._hotels.values()):
                while line and len(going) < most and self._leads(line[0]):
                    if not passes(line[0].publication):
                        break
                    going.append(self._pop(line[0]))
        return going

    def wait_s(self) -> float:
        """Return in how many seconds `take` should be asked again."""
        waits = [_LONGEST_WAIT_S]
        for line in self._hotels.values():
            if self._leads(line[0]):
                first, some = (self._wait_s(line[0].publication, n) for n in (1, _SOME))
                waits.append(max(first, min(some, _SOON_S)))
        return min(waits)

    def _leads(self, held: Held[E]) -> bool:
        return self._channels[held.channel][0] is held

    def _pop(self, held: Held[E]) -> Held[E]:
        for lines, name in ((self._hotels, held.hotel), (self._channels, held.channel)):
            lines[name].popleft()
            if not lines[name]:
                del lines[name]
        self._count -= 1
        self._bytes -= held.size
        return held
