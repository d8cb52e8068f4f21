"""A stream that listens and reads the history at once: each event is written once, in order."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from server.broker.message import BusMessage
from server.errors import BrokerUnavailable
from server.history import Carried, ChannelHistory
from server.http.stream import Stream
from server.protocol.presence import GapReason
from tests.server.room import message

CUT = "cut"


def event(number: int, epoch: str = "e") -> BusMessage:
    """Return a plain event."""
    made = message({"plain": b'{"event":"posted","channel":"c","data":"x"}'}, number=number)
    made.epoch = epoch
    return made


class Desk:
    """A stream whose history answers what the test says, when it says so."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[Carried | Exception] = asyncio.Queue()
        self.asked = asyncio.Event()
        self.stream = Stream(("1", "c"), cast("ChannelHistory", self), CUT, lambda _: None)
        self.written = b""
        self.gone = asyncio.Event()
        self.news = asyncio.Event()

    async def since(self, *_: object) -> Carried:
        self.asked.set()
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def gap_by_number(self, epoch: str, number: int, carried: Carried) -> GapReason | None:
        return None if epoch == carried.epoch else GapReason.EPOCH_CHANGED

    def carries(self, *numbers: int, epoch: str = "e") -> None:
        """Have the history answer with these events."""
        messages = tuple(event(number, epoch) for number in numbers)
        last = numbers[-1] if numbers else 0
        self.answers.put_nowait(Carried(messages, last, epoch if last else "", 0, last, 0))

    async def begin(self, since: tuple[str, int] | None) -> asyncio.Task[None]:
        """Begin to listen; the history has been asked."""
        self.stream.listens()
        beginning = asyncio.create_task(self.stream.begin(since))
        await self.asked.wait()
        return beginning

    async def send(self, said: Any) -> None:
        self.written += said.get("body", b"")
        self.news.set()

    async def receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def ids(self, count: int) -> list[str]:
        """Write until there are so many ids; return those."""
        scope = {"extensions": {CUT: {"abort": self.gone.set}}}
        pouring = asyncio.create_task(self.stream.pour(scope, self.receive, self.send))
        async with asyncio.timeout(10):
            while self.written.count(b"id: ") < count:
                self.news.clear()
                await self.news.wait()
        self.stream.end()
        await pouring
        lines = self.written.decode().splitlines()
        return [line.removeprefix("id: ") for line in lines if line.startswith("id: ")]


async def test_what_came_in_meanwhile_is_merged() -> None:
    """Also what the history does not keep, and what it has already when it comes in later."""
    desk = Desk()
    beginning = await desk.begin(("e", 1))
    desk.stream.took(event(4))
    desk.stream.took(event(5))
    desk.carries(1, 2, 3, 5, 6)
    await beginning
    desk.stream.took(event(6))
    desk.stream.took(event(7))
    assert await desk.ids(6) == [f"e:{number}" for number in range(2, 8)]


async def test_from_now_on_is_what_comes_behind_the_channels_number() -> None:
    """What the history has counted already is past."""
    desk = Desk()
    beginning = await desk.begin(None)
    desk.stream.took(event(3))
    desk.stream.took(event(4))
    desk.carries(3)
    await beginning
    assert await desk.ids(2) == ["e:3", "e:4"]
    assert desk.written.count(b"data: ") == 1


async def test_first_event_of_a_silent_channel_that_was_missed_is_no_gap() -> None:
    """It is the first: nothing can be before it. If it is not, something may be."""
    for numbers, gaps in (((1, 2), 0), ((2, 3), 1)):
        desk = Desk()
        beginning = await desk.begin(None)
        desk.carries()
        await beginning
        desk.stream.lost()
        desk.stream.listens()
        desk.carries(*numbers)
        ids = await desk.ids(2 + gaps)
        assert ids[gaps:] == [f"e:{number}" for number in numbers]
        assert desk.written.count(b"bellhop:gap") == gaps


async def test_history_that_does_not_answer_is_asked_again() -> None:
    """While the stream lives; one that has not begun is refused."""
    desk = Desk()
    beginning = await desk.begin(("e", 1))
    desk.answers.put_nowait(BrokerUnavailable("away"))
    with pytest.raises(BrokerUnavailable):
        await beginning
    desk = Desk()
    beginning = await desk.begin(("e", 1))
    desk.carries(1)
    await beginning
    desk.stream.lost()
    desk.stream.listens()
    desk.answers.put_nowait(BrokerUnavailable("away"))
    desk.carries(1, 2)
    assert await desk.ids(1) == ["e:2"]


async def test_new_epoch_follows_the_old_one() -> None:
    """What has begun since the history was read comes behind it; live, it is no gap."""
    desk = Desk()
    beginning = await desk.begin(("e", 1))
    desk.stream.took(event(1, "f"))
    desk.carries(1, 2)
    await beginning
    desk.stream.took(event(2, "f"))
    assert await desk.ids(3) == ["e:2", "f:1", "f:2"]
    assert b"bellhop:gap" not in desk.written
