"""Whether what a channel's history holds is all that somebody may have missed."""

from __future__ import annotations

from typing import cast

import pytest

from server.broker.keys import Keys
from server.broker.message import Publication, SplicedFrame
from server.broker.pipe import Pipe
from server.history import Carried, ChannelHistory, Known
from server.protocol.presence import GapReason
from tests.broker.script import written
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


async def test_malformed_message_of_the_history_is_passed_over() -> None:
    """The others are told; an answer that is no history is an error."""
    good = written(Publication("1", "c", "id", (SplicedFrame(b"x"),), (("plain", 0),)))

    class Answers:
        def script(self, *asked: object, **more: object) -> object:
            read = asked[3]
            assert callable(read)
            with pytest.raises(TypeError, match="expected a history"):
                read([1, 2])
            return read([2, b"e", 5, 2, 4, [b"nonsense", good]])

    history = ChannelHistory(cast("Pipe", Answers()), Keys("b:"), seconds=1, events=1)
    found = cast("Carried", history.since("1", "c", -5))
    assert (found.number, found.epoch, found.last_ms, found.first_ms) == (2, "e", 5, 4)
    assert [each.frames for each in found.messages] == [{"plain": b"x"}]


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
