"""What each connection may take up of those before it: looked up once, and kept for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from server.broker.records import Heard

Past = dict[str, list[Heard]]
"""Lost subscriptions by channel."""
Key = tuple[str, str]
"""(socket id, identity)."""
KEPT_S: Final = 120.0
"""For how long a past is kept, at least; and at most twice as long."""
_NOTHING: Final[Past] = {}
"""Of everybody who has nothing to take up; nothing is ever put in it."""


class Pasts:
    """The pasts of a node's connections."""

    def __init__(self) -> None:
        self._young: dict[Key, Past] = {}
        self._old: dict[Key, Past] = {}
        self._asked: dict[Key, asyncio.Future[Past]] = {}

    def known(self, key: Key) -> Past | None:
        """Return a past that has been looked up; what is taken up of it is taken out."""
        found = self._young.get(key)
        return self._old.get(key) if found is None else found

    async def of(self, key: Key, look_up: Callable[[], Awaitable[Past]]) -> Past:
        """Return a past, looked up by the first who asks."""
        found = self.known(key)
        if found is not None:
            return found
        asked = self._asked.get(key)
        if asked is not None:
            return await asked
        asked = self._asked[key] = asyncio.get_running_loop().create_future()
        try:
            found = self._young[key] = await look_up() or _NOTHING
            asked.set_result(found)
        except BaseException:
            asked.cancel()
            raise
        finally:
            del self._asked[key]
        return found

    def age(self) -> None:
        """Forget what is old; called every `KEPT_S`."""
        self._old, self._young = self._young, {}
