"""A broker's outside that remembers what it was given, and answers when it is told to."""

from __future__ import annotations

import asyncio

from server.broker.interface import Receipt
from server.broker.message import Announcement, Publication


class Desk:
    """Takes publications; `futures` are the answers that are still due."""

    def __init__(self) -> None:
        self.ready = True
        self.published: list[Publication] = []
        self.futures: list[asyncio.Future[Receipt]] = []
        self.announced: list[tuple[str, str, Announcement]] = []

    def publish(self, publication: Publication) -> asyncio.Future[Receipt]:
        self.published.append(publication)
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self.futures.append(future)
        return future

    def announce(self, app_id: str, channel: str, announcement: Announcement) -> None:
        self.announced.append((app_id, channel, announcement))

    def watch(self, app_id: str, channel: str) -> bool:
        raise AssertionError("a publisher does not listen")

    def unwatch(self, app_id: str, channel: str) -> None:
        raise AssertionError("a publisher does not listen")
