"""What waits for its hotel's wall: who goes past, and what keeps its order."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from server.backlog import Backlog, Held
from server.broker.message import Publication, SplicedFrame
from server.walls import PublishWall, Rate

HOTELS = ("grand", "killarney", "")
CHANNELS = ("grand.rooms", "killarney.rooms", "staff-hotel-1", "staff-hotel-2")


def held(number: int, hotel: str = "grand", channel: str = "grand.rooms") -> Held[int]:
    """Return an event of 100 bytes; its entry is its number."""
    frame = SplicedFrame(b"x" * 100)
    return Held(number, Publication("1", channel, str(number), (frame,), (), hotel))


def walled(wall: PublishWall, **bounds: int) -> Backlog[int]:
    """Return a backlog at this wall."""
    return Backlog(lambda each, n: wall.wait_s(each.app_id, each.hotel_slug, n), **bounds)


@given(st.lists(st.tuples(st.sampled_from(HOTELS), st.sampled_from(CHANNELS), st.booleans())))
def test_backlog_keeps_the_order_of_hotels_and_channels_and_loses_nothing(
    steps: list[tuple[str, str, bool]],
) -> None:
    """Whatever hotels are at their walls when, and whatever channels they share."""
    open_hotels: set[str] = set()
    backlog = Backlog[int](lambda each, _n: 0.0 if each.hotel_slug in open_hotels else 1.0)

    def passes(publication: Publication) -> bool:
        return publication.hotel_slug in open_hotels

    went: list[Held[int]] = []
    for number, (hotel, channel, opens) in enumerate(steps):
        open_hotels ^= {hotel} if opens else set()
        event = held(number, hotel, channel)
        if backlog.before(event) or not passes(event.publication):
            backlog.put(event)
        else:
            went.append(event)
        went += backlog.take(passes, 2)
        assert len(backlog) == number + 1 - len(went)
    open_hotels |= set(HOTELS)
    while going := backlog.take(passes, 2):
        went += going
    assert sorted(event.entry for event in went) == list(range(len(steps)))
    lines = defaultdict(list)
    for event in went:
        lines["hotel", event.hotel].append(event.entry)
        lines["channel", event.channel].append(event.entry)
    assert all(line == sorted(line) for line in lines.values())
    assert (len(backlog), backlog.full) == (0, False)


def test_backlog_holds_up_those_alone_who_share_hotel_or_channel() -> None:
    """A hotel's wall is no other's, nor another app's."""
    backlog = Backlog[int](lambda _each, _n: 1.0)
    backlog.put(held(1))
    assert backlog.before(held(2, channel="staff-hotel-1"))
    assert backlog.before(held(2, hotel="killarney"))
    assert not backlog.before(held(2, "killarney", "killarney.rooms"))
    elsewhere = Publication("2", "grand.rooms", "2", (), (), "grand")
    assert not backlog.before(Held(2, elsewhere))


def test_backlog_is_full_at_either_bound() -> None:
    """Events or bytes: then nothing more is read, until some have gone."""
    wall = PublishWall(Rate(1, 1), lambda: 0.0)
    for bounds in ({"most": 3}, {"most_bytes": 300}):
        backlog = walled(wall, **bounds)
        for number in range(3):
            assert not backlog.full
            backlog.put(held(number))
        assert backlog.full
        assert [each.entry for each in backlog.take(lambda _: True, 1)] == [0]
        assert not backlog.full


def test_backlog_that_is_cleared_holds_nothing_up() -> None:
    """Whoever begins anew reads it all again."""
    backlog = Backlog[int](lambda _each, _n: 1.0)
    backlog.put(held(1))
    backlog.clear()
    assert (len(backlog), backlog.before(held(2)), backlog.take(lambda _: True, 9)) == (
        0,
        False,
        [],
    )


def test_backlog_waits_for_some_together_where_that_is_soon() -> None:
    """Each time costs round trips; but what comes seldom is not held back for more."""
    for rate, expected in (
        (Rate(1000, 1000), 0.05),
        (Rate(1000, 1), 0.001),
        (Rate(10, 100), 0.1),
        (Rate(0.1, 1), 1.0),
    ):
        wall = PublishWall(rate, lambda: 0.0)
        while not wall.take("1", "grand"):
            pass
        backlog = walled(wall)
        backlog.put(held(1))
        assert round(backlog.wait_s(), 4) == expected
