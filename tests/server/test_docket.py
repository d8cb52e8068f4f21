"""What came by PUBLISH to be revoked: the same place on every node, written in that order."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as Lost

from server.broker.keys import Keys
from server.docket import Docket, Place


class Marks:
    """Redis, that gives marks: the next number each time, or none."""

    def __init__(self) -> None:
        self.last = 0
        self.lost = False
        self.sent = asyncio.Queue[int]()

    def register_script(self, source: str) -> Any:
        del source
        return self.give

    async def give(self, **_: Any) -> int:
        if self.lost:
            self.sent.put_nowait(0)
            raise Lost
        self.last += 1
        self.sent.put_nowait(self.last)
        return self.last


def docket(marks: Marks | None = None, most: int = 10) -> Docket:
    """Return a node's docket."""
    return Docket(cast("Redis", marks or Marks()), Keys("bellhop:"), most)


async def asked(docket_: Docket, count: int) -> list[tuple[bytes, Place]]:
    """Return the next so many."""
    return [tuple(await docket_.next()) for _ in range(count)]  # type: ignore[misc]  # they are two


async def test_place_is_the_same_where_a_node_has_heard_less() -> None:
    """One that came between marks, one that was cut off, one that had too much."""
    all_, late, short = docket(), docket(), docket(most=1)
    for each in (all_, short):
        each.hear(b"1")
    for each in (all_, late, short):
        each.hear(b"2")
        each.mark(7)
    late.deaf()
    for each in (all_, late):
        each.hear(b"3")
        each.mark(8)
    places = [(b"1", Place(7, 2)), (b"2", Place(7, 1)), (b"3", Place(8, 1))]
    assert await asked(all_, 3) == places
    assert await asked(late, 2) == places[1:]
    assert await asked(short, 1) == places[:1]


async def test_message_without_a_place_is_not_kept_over_a_loss() -> None:
    """Other nodes have given it an earlier one than it would get."""
    node = docket()
    node.hear(b"1")
    node.deaf()
    node.hear(b"2")
    node.mark(7)
    assert await asked(node, 1) == [(b"2", Place(7, 1))]


async def test_turn_comes_when_what_was_heard_before_is_written() -> None:
    """Not when it has its place, nor when somebody else's mark comes."""
    marks = Marks()
    node = docket(marks)
    marks.last = 6
    node.hear(b"1")
    turn = asyncio.create_task(node.turn(60))
    assert await marks.sent.get() == 7
    node.mark(6)
    await node.next()
    writing = asyncio.create_task(node.next())
    await asyncio.sleep(0)
    assert not turn.done()
    node.hear(b"2")
    node.mark(7)
    assert (await writing).body == b"2"
    await asyncio.sleep(0)
    assert not turn.done()
    writing = asyncio.create_task(node.next())
    assert await turn
    # Its mark may come in before its number does; then the turn is there at once.
    node.mark(9)
    marks.last = 8
    assert await node.turn(60)
    writing.cancel()


async def test_turn_that_is_given_up_leaves_nothing_behind() -> None:
    """Its mark may come later, and hold up nobody."""
    marks = Marks()
    node = docket(marks)
    for heard_before in (False, True):
        turn = asyncio.create_task(node.turn(0))
        mark = await marks.sent.get()
        if heard_before:
            node.mark(mark)
        assert not await turn
        node.hear(b"1")
        node.mark(mark + 1)
        assert (await node.next()).body == b"1"
        marks.last = mark + 1


async def test_mark_is_sent_until_it_comes() -> None:
    """Redis may be away, or a mark not arrive; and where nothing waits, none is sent."""
    marks = Marks()
    node = docket(marks)
    running = asyncio.create_task(node.run())
    await asyncio.sleep(0)
    assert marks.sent.empty()
    marks.lost = True
    node.hear(b"1")
    assert await marks.sent.get() == 0
    marks.lost = False
    assert [await marks.sent.get() for _ in range(2)] == [1, 2]
    node.mark(2)
    node.hear(b"2")
    assert await marks.sent.get() == 3
    assert (await node.next()).place == Place(2, 1)
    running.cancel()
