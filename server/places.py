"""Where a raw message stands among all that the nodes hear, and what of it may be nobody's yet.

Redis brings every node the same messages in the same order. The node that publishes those without
an event id puts marks between them; a message's place is the mark before it and its number since.
The place is its event id, so that it goes out once whichever nodes publish it. With a mark comes
which earlier one everything before is settled of, published or refused: until then each other node
keeps what it has heard, and whichever takes over publishes what it has kept.
"""

from __future__ import annotations

import random
import re
from collections import deque
from typing import Final, NamedTuple

_MOST: Final = 50_000
_MOST_BYTES: Final = 64 * 1024 * 1024
_MOST_MARKS: Final = 64
"""Marks that are remembered, and with them what came since the first: a quarter of a minute's."""
_MARK: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-", re.ASCII)


def new_mark() -> str:
    """Return a mark: a UUID without its last twelve digits. It is no secret."""
    digits = f"{random.getrandbits(72):018x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-a{digits[15:18]}-"


class Heard(NamedTuple):
    """A message as it came, and the event id that its place gives it; empty where it has none."""

    name: bytes
    body: bytes
    event_id: str


class Places:
    """Counts messages, and keeps those of which it is not known that a node has taken them."""

    def __init__(self, most: int = _MOST, most_bytes: int = _MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._kept: deque[Heard] = deque()
        self._bytes = 0
        self._gone = 0
        """How many have been kept, ever, and are not any more."""
        self._marks: dict[str, int] = {}
        """How many had been kept, ever, when a mark came."""
        self._mark = ""
        self._number = 0
        self.complete = False
        """Whether everything is kept that is not settled."""
        self.forgotten = 0
        """Messages that were let go before they were known to be settled: too many, or too old."""

    def __len__(self) -> int:
        return len(self._kept)

    def count(self) -> None:
        """Count a message, whatever becomes of it: every node counts the same ones."""
        self._number += 1

    def event_id(self) -> str:
        """Return the event id of the message that was counted last."""
        return f"{self._mark}{self._number:012x}" if self._mark else ""

    def mark(self, mark: str, settled: str) -> None:
        """Take a mark, and that everything before an earlier one is settled."""
        if not _MARK.fullmatch(mark):
            return
        until = self._marks.get(settled)
        if until is not None:
            self.complete = True
            while self._gone < until and self._kept:
                self._drop()
            self._marks = {each: at for each, at in self._marks.items() if at >= until}
        self._mark, self._number = mark, 0
        self._marks[mark] = self._gone + len(self._kept)
        if len(self._marks) > _MOST_MARKS:
            oldest = next(iter(self._marks))
            until = self._marks.pop(oldest)
            while self._gone < until and self._kept:
                self._drop()
                self.forgotten += 1

    def keep(self, name: bytes, body: bytes) -> None:
        """Keep the message that was counted last; where there is no room, the oldest go."""
        self._kept.append(Heard(name, body, self.event_id()))
        self._bytes += len(name) + len(body)
        while len(self._kept) > self._most or self._bytes > self._most_bytes:
            self._drop()
            self.forgotten += 1

    def take(self) -> Heard | None:
        """Return the oldest, to be published, and keep it no more."""
        return self._drop() if self._kept else None

    def deaf(self) -> None:
        """Learn that messages and marks have been missed: until the next mark there is no place."""
        self._marks.clear()
        self._mark = ""
        self.complete = False

    def _drop(self) -> Heard:
        heard = self._kept.popleft()
        self._bytes -= len(heard.name) + len(heard.body)
        self._gone += 1
        return heard
