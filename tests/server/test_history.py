"""Whether what a channel's history holds is all that somebody may have missed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from server.broker.keys import Keys
from server.broker.message import Publication, SplicedFrame
from server.broker.pipe import Pipe
from server.errors import BrokerUnavailable
from server.history import Carried, ChannelHistory, Known
from server.protocol.presence import Entered, GapReason
from tests.broker.script import written
from tests.harness import eventually
from tests.server.room import message

NOW_MS = 1_700_000_000_000
SECONDS, EVENTS = 120, 100
KEPT = NOW_MS - SECONDS * 1000
HISTORY = ChannelHistory(cast("Pipe", None), Keys("b:"), seconds=SECONDS, events=EVENTS)


def carried(
    number: int = 9,
    epoch: str = "e",
    *,
    last_ms: int = NOW_MS - 1_000,
    length: int = 3,
    first_ms: int = NOW_MS - 50_000,
    messages: tuple[int, ...] = (),
) -> Carried:
    """Return a part of a history that holds all that was published lately."""
    found = tuple(message({}, number=each) for each in messages)
    return Carried(found, number, epoch, last_ms, length, first_ms)


NEVER = carried(0, "", last_ms=0, length=0, first_ms=0)
"""Of a channel that nobody has heard of."""


@pytest.mark.parametrize(
    "known, found, gap",
    [
        # Everything since is in the history.
        (Known(NOW_MS - 40_000, 7, "e"), carried(), None),
        # What is before the resume point has gone out of it.
        (Known(NOW_MS - 40_000, 7, "e"), carried(first_ms=NOW_MS - 30_000), None),
        # Nothing was published since, or nothing that is kept.
        (Known(NOW_MS - 500, 7, "e"), carried(), None),
        (Known(KEPT - 1, 9, "e"), carried(), None),
        (Known(KEPT - 1, 9, "e"), carried(length=0, first_ms=0), None),
        # Nothing is known of a channel on which nothing has happened.
        (Known(KEPT - 1), NEVER, None),
        (Known(NOW_MS - 40_000), carried(), None),
        # The client was away for too long.
        (Known(KEPT - 1, 7, "e"), carried(), GapReason.WINDOW_EXCEEDED),
        (Known(KEPT, 7, "e"), carried(), None),
        # More was published than is kept.
        (
            Known(NOW_MS - 40_000, 7, "e"),
            carried(first_ms=NOW_MS - 30_000, length=EVENTS),
            GapReason.WINDOW_EXCEEDED,
        ),
        (Known(NOW_MS - 40_000, 7, "e"), carried(length=EVENTS), None),
        # Redis has lost its data: the log, the channel, or both and there is a new one.
        (Known(NOW_MS - 40_000, 7, "e"), carried(length=0, first_ms=0), GapReason.HISTORY_LOST),
        (Known(NOW_MS - 40_000, 7, "e"), NEVER, GapReason.HISTORY_LOST),
        (Known(NOW_MS - 40_000, 7, "e"), carried(2, "f"), GapReason.EPOCH_CHANGED),
        (Known(NOW_MS - 500, 7, "e"), carried(2, "f"), GapReason.EPOCH_CHANGED),
    ],
)
def test_gap_by_time(known: Known, found: Carried, gap: GapReason | None) -> None:
    """Only what cannot be proven to be complete is a gap."""
    assert HISTORY.gap_by_time(known, found, NOW_MS) is gap


@pytest.mark.parametrize(
    "number, epoch, last_ms, gap",
    [
        # What has come since it entered is no gap, however long ago it was lost.
        (8, "e", KEPT - 2, None),
        (7, "e", NOW_MS - 9_000, None),
        (0, "", 0, GapReason.HISTORY_LOST),
        # It was away for too long before.
        (8, "e", NOW_MS - 9_000, GapReason.WINDOW_EXCEEDED),
        # Redis has lost the channel since.
        (8, "d", KEPT - 2, GapReason.WINDOW_EXCEEDED),
    ],
)
def test_gap_is_of_what_came_before_somebody_entered(
    number: int, epoch: str, last_ms: int, gap: GapReason | None
) -> None:
    """The channel may have carried more by the time at which its history is read."""
    entered = Entered(number=number, epoch=epoch, time_ms=NOW_MS - 5_000, last_ms=last_ms)
    known = Known(KEPT - 1, 7, "e")
    assert HISTORY.gap_by_time(known, carried().as_of(entered), NOW_MS) is gap


async def test_malformed_message_of_the_history_is_passed_over() -> None:
    """The others are told; an answer that is no history is an error."""
    good = written(Publication("1", "c", "id", (SplicedFrame(b"x"),), (("plain", 0),)))

    class Answers:
        def script(self, *asked: object, **more: object) -> object:
            read = asked[3]
            assert callable(read)
            with pytest.raises(TypeError, match="expected a history"):
                read([1, 2])
            return read([2, b"e", 5, 2, 4, [b"nonsense", good], [b"4-0", b"5-0"]])

    history = ChannelHistory(cast("Pipe", Answers()), Keys("b:"), seconds=1, events=1)
    found = cast("Carried", history.since("1", "c", -5))
    assert (found.number, found.epoch, found.last_ms, found.first_ms) == (2, "e", 5, 4)
    assert [each.frames for each in found.messages] == [{"plain": b"x"}]
    assert found.times == (5,)


@pytest.mark.parametrize(
    "epoch, number, found, gap",
    [
        ("e", 6, carried(messages=(7, 8, 9)), None),
        ("e", 7, carried(messages=(7, 8, 9)), None),
        ("e", 9, carried(), None),
        ("e", 12, carried(), None),
        ("e", 5, carried(messages=(7, 8, 9)), GapReason.WINDOW_EXCEEDED),
        ("e", 8, carried(), GapReason.WINDOW_EXCEEDED),
        ("f", 9, carried(messages=(7, 8, 9)), GapReason.EPOCH_CHANGED),
        ("e", 9, NEVER, GapReason.HISTORY_LOST),
    ],
)
def test_gap_by_number(epoch: str, number: int, found: Carried, gap: GapReason | None) -> None:
    """A client that names its point has all if the next number is there, or none came."""
    assert HISTORY.gap_by_number(epoch, number, found) is gap


# --- what several share --------------------------------------------------------------------------


class Log:
    """A channel's log in Redis: events that are numbered as they come, each a millisecond later."""

    def __init__(self) -> None:
        self.events = 0
        self.reads = 0
        self.answers: list[tuple[asyncio.Future[Carried], Callable[[object], Carried], int]] = []

    def script(
        self, name: str, keys: object, arguments: tuple[int, int], read: Any
    ) -> asyncio.Future[Carried]:
        """Take a question; `answer` answers it."""
        assert (name, keys) == ("history", ("b:{1:c}", "b:{1:c}:log"))
        self.reads += 1
        future: asyncio.Future[Carried] = asyncio.get_running_loop().create_future()
        self.answers.append((future, read, arguments[0]))
        return future

    def answer(self) -> None:
        """Answer everything with the log as it is."""
        answers, self.answers = self.answers, []
        for future, read, since_ms in answers:
            numbers = [number for number in range(1, self.events + 1) if number >= since_ms]
            found = [bus_bytes(number) for number in numbers]
            ids = [b"%d-0" % number for number in numbers]
            future.set_result(read([self.events, b"e", self.events, 9, 1, found, ids]))


def bus_bytes(number: int) -> bytes:
    """Return an event as the log keeps it."""
    frame = SplicedFrame(str(number).encode())
    return written(Publication("1", "c", f"id-{number}", (frame,), (("plain", 0),)))


async def back(history: ChannelHistory, since_ms: int, number: int) -> list[str]:
    """Return the events that somebody gets who entered when there were so many."""
    entered = Entered(number=number, epoch="e" if number else "")
    carried = await history.before("1", "c", since_ms, entered)
    return [message.event_id.removeprefix("id-") for message in carried.messages]


async def test_those_who_come_back_together_share_a_read() -> None:
    """One question for all of them, and each gets what came since its own moment."""
    log = Log()
    log.events = 5
    history = ChannelHistory(cast("Pipe", log), Keys("b:"), seconds=SECONDS, events=EVENTS)
    asking = [asyncio.ensure_future(back(history, since, 5)) for since in (2, 4, 5, 6)]
    await asyncio.sleep(0)
    log.answer()
    assert await asyncio.gather(*asking) == [["2", "3", "4", "5"], ["4", "5"], ["5"], []]
    assert await back(history, 3, 4) == ["3", "4", "5"]
    assert log.reads == 1


async def test_history_is_read_again_when_what_was_read_is_not_enough() -> None:
    """For who asks from further back, and for who entered after more had come."""
    log = Log()
    log.events = 5
    history = ChannelHistory(cast("Pipe", log), Keys("b:"), seconds=SECONDS, events=EVENTS)
    for since, number, expected in (
        (4, 5, ["4", "5"]),
        (3, 5, ["3", "4", "5"]),
        (3, 6, ["3", "4", "5", "6"]),
        (6, 6, ["6"]),
    ):
        log.events = max(log.events, number)
        asking = asyncio.ensure_future(back(history, since, number))
        await asyncio.sleep(0)
        log.answer()
        assert await asking == expected
    assert log.reads == 3


async def test_read_that_was_under_way_is_not_enough_for_who_entered_later() -> None:
    """It may have been answered before: whoever entered meanwhile has it read again."""
    log = Log()
    log.events = 5
    history = ChannelHistory(cast("Pipe", log), Keys("b:"), seconds=SECONDS, events=EVENTS)
    early = asyncio.ensure_future(back(history, 4, 5))
    late = asyncio.ensure_future(back(history, 5, 6))
    await asyncio.sleep(0)
    log.answer()
    assert await early == ["4", "5"]
    log.events = 6
    await eventually(lambda: log.answers)
    log.answer()
    assert await late == ["5", "6"]


async def test_history_is_asked_again_when_redis_did_not_answer() -> None:
    """All who shared the read learn of it, and the next one asks anew."""
    log = Log()
    log.events = 1
    history = ChannelHistory(cast("Pipe", log), Keys("b:"), seconds=SECONDS, events=EVENTS)
    asking = [asyncio.ensure_future(back(history, 0, 1)) for _ in range(2)]
    await asyncio.sleep(0)
    log.answers.pop()[0].set_exception(BrokerUnavailable("gone"))
    for each in asking:
        with pytest.raises(BrokerUnavailable):
            await each
    again = asyncio.ensure_future(back(history, 0, 1))
    await asyncio.sleep(0)
    log.answer()
    assert await again == ["1"]
