from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.wheel import Wheel
from tests.harness import DEADLINE_S

START = 1_000.25


class Clock:
    """The time, moved by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Entry:
    """Something with a deadline; it asks to be seen again at each of ``following`` in turn."""

    def __init__(self, *following: float) -> None:
        self.due = 0
        self.following = list(following)
        self.ticks: list[float] = []

    def tick(self, now: float) -> float | None:
        self.ticks.append(now)
        return self.following.pop(0) if self.following else None


class Ring:
    """A wheel and its clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.wheel = Wheel(self.clock)

    def turn_at(self, now: float) -> None:
        self.clock.now = now
        self.wheel.turn()


@pytest.mark.parametrize("deadline", [1_002.0, 1_001.5, 1_001.001])
def test_entry_is_ticked_in_the_second_after_its_deadline(deadline: float) -> None:
    """Never early, late by less than a second, and once."""
    ring, entry = Ring(), Entry()
    ring.wheel.schedule(entry, deadline)
    ring.turn_at(1_001.999)
    assert entry.ticks == []
    ring.turn_at(1_002.0)
    assert entry.ticks == [1_002.0]
    ring.turn_at(1_900.0)
    assert entry.ticks == [1_002.0]


@pytest.mark.parametrize("deadline", [1_000.25, 999.0, 0.0, -1.0])
def test_entry_is_ticked_at_the_next_turn_when_it_is_due_already(deadline: float) -> None:
    """A deadline that has passed is not forgotten: the slot of its time is gone, the next comes."""
    ring, entry = Ring(), Entry()
    ring.wheel.schedule(entry, deadline)
    ring.turn_at(1_001.0)
    assert entry.ticks == [1_001.0]


def test_entry_that_moves_later_is_seen_once_where_it_stood() -> None:
    """Activity costs nothing: scheduled later, it stays, and says itself when to be seen next."""
    ring, entry = Ring(), Entry(1_007.0)
    for deadline in (1_002.0, 1_005.0, 1_007.0):
        ring.wheel.schedule(entry, deadline)
    ring.turn_at(1_002.0)
    assert entry.ticks == [1_002.0]
    ring.turn_at(1_006.9)
    assert entry.ticks == [1_002.0]
    ring.turn_at(1_007.0)
    assert entry.ticks == [1_002.0, 1_007.0]


def test_entry_that_moves_nearer_is_seen_at_the_nearer_one_alone() -> None:
    """A token that ends sooner is not missed, and the slot further away passes it over."""
    ring, entry = Ring(), Entry()
    ring.wheel.schedule(entry, 1_009.0)
    ring.wheel.schedule(entry, 1_003.0)
    ring.turn_at(1_003.0)
    ring.turn_at(1_009.0)
    assert entry.ticks == [1_003.0]


def test_entry_may_ask_for_the_past() -> None:
    """It is seen a second later, and does not hold up the wheel."""
    ring, entry = Ring(), Entry(0.0, 0.0)
    ring.wheel.schedule(entry, 1_001.0)
    ring.turn_at(1_001.5)
    assert entry.ticks == [1_001.5]
    ring.turn_at(1_002.0)
    assert entry.ticks == [1_001.5, 1_002.0]
    # A turn that comes late goes through the seconds that it missed.
    late, due = Entry(0.0, 0.0), 1_003.0
    ring.wheel.schedule(late, due)
    ring.turn_at(1_010.0)
    assert late.ticks == [1_010.0] * 3


def test_wheel_stands_still_while_the_clock_goes_back() -> None:
    """A corrected clock ticks nobody twice and nobody early."""
    ring, entry = Ring(), Entry(1_004.0)
    ring.wheel.schedule(entry, 1_002.0)
    ring.turn_at(1_002.0)
    ring.turn_at(990.0)
    ring.turn_at(1_003.0)
    assert entry.ticks == [1_002.0]
    ring.turn_at(1_004.0)
    assert entry.ticks == [1_002.0, 1_004.0]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("schedule"), st.integers(0, 3), st.floats(0, 20)),
            st.tuples(st.just("turn"), st.just(0), st.floats(0, 3)),
        ),
        max_size=40,
    )
)
def test_no_deadline_is_missed_or_ticked_early(steps: list[tuple[str, int, float]]) -> None:
    """After every turn whoever had a deadline before this second has been ticked since."""
    ring = Ring()
    entries = [Entry() for _ in range(4)]
    nearest: dict[int, float] = {}
    seen: Counter[int] = Counter()
    for what, number, seconds in steps:
        if what == "schedule":
            deadline = ring.clock.now + seconds
            ring.wheel.schedule(entries[number], deadline)
            nearest[number] = min(deadline, nearest.get(number, deadline))
            continue
        ring.turn_at(ring.clock.now + seconds)
        for each, entry in enumerate(entries):
            if len(entry.ticks) > seen[each]:
                assert len(entry.ticks) == seen[each] + 1
                seen[each] += 1
                assert nearest.pop(each) <= ring.clock.now
            elif each in nearest:
                assert nearest[each] > ring.clock.now - 1.0


async def test_wheel_turns_by_itself() -> None:
    """Running, it turns each second until it is cancelled."""

    class Alarm(Entry):
        def tick(self, now: float) -> float | None:
            rung.set()
            return super().tick(now)

    rung = asyncio.Event()
    # A clock that is always just before a second's end: the next one comes at once.
    seconds = iter(range(10_000))
    wheel = Wheel(lambda: next(seconds) + 0.999)
    wheel.schedule(Alarm(), 3.0)
    running = asyncio.create_task(wheel.run())
    await asyncio.wait_for(rung.wait(), DEADLINE_S)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert running.cancelled()
